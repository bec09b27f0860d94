"""The certification of connectors, ours and others': what every one of them has to hold, proven on its own simulator.

    pytest --pyargs connectors.certification --connector HubSpot
    pytest --pyargs connectors.certification --connector my_package.certified:CertifiedAcme

A connector brings a `CertifiedPartner` (`partner.py`); the suite brings everything else.
"""
