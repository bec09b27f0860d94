// Drives a Pipedrive with Pipedrive's own client and prints what came of it: node drive.cjs SCENARIO URL JSON

const v1 = require("pipedrive/v1");
const v2 = require("pipedrive/v2");

const refusal = (promise) => promise.then(() => null, (error) => error.response?.data ?? error);

function clients(url, apiKey) {
  const old = new v1.Configuration({ apiKey, basePath: `${url}/v1` });
  const current = new v2.Configuration({ apiKey, basePath: `${url}/api/v2` });
  return {
    organizations: new v2.OrganizationsApi(current),
    fields: new v2.OrganizationFieldsApi(current),
    search: new v2.ItemSearchApi(current),
    notes: new v1.NotesApi(old),
    webhooks: new v1.WebhooksApi(old),
  };
}

const scenarios = {
  async records(url, { token }) {
    const { organizations, fields, search, notes } = clients(url, token);
    const field = await fields.addOrganizationField({
      AddOrganizationFieldRequest: { field_name: "Our id", field_type: "varchar" },
    });
    const code = field.data.field_code;
    const made = await organizations.addOrganization({
      AddOrganizationRequest: { name: "Acme", custom_fields: { [code]: "c-1" } },
    });
    const id = made.data.id;
    await organizations.updateOrganization({ id, UpdateOrganizationRequest: { name: "Acme Ltd" } });
    await notes.addNote({ AddNoteRequest: { content: "hello", org_id: id } });
    const found = await search.searchItemByField({
      entity_type: "organization", field: code, match: "exact", term: "c-1",
    });
    const read = await organizations.getOrganization({ id });
    const noted = await notes.getNotes({ org_id: id });
    await organizations.deleteOrganization({ id });
    return {
      ids: [id, found.data[0].id],
      name: read.data.name,
      custom: read.data.custom_fields[code],
      notes: noted.data.map((each) => each.content),
      gone: await refusal(organizations.getOrganization({ id })),
    };
  },

  async webhooks(url, { token, target }) {
    const { webhooks } = clients(url, token);
    const added = await webhooks.addWebhook({
      AddWebhookRequest: {
        name: "ours", subscription_url: target, event_action: "*", event_object: "organization", version: "2.0",
      },
    });
    const listed = await webhooks.getWebhooks();
    await webhooks.deleteWebhook({ id: added.data.id });
    return { added: added.data, listed: listed.data, left: (await webhooks.getWebhooks()).data };
  },

  async oauth(url, { code, redirectUri }) {
    const config = new v2.OAuth2Configuration({
      clientId: "app-1", clientSecret: "secret of app 1", redirectUri, host: url,
    });
    const first = await config.authorize(code);
    const api = new v2.OrganizationsApi(
      new v2.Configuration({ accessToken: config.getAccessToken, basePath: config.basePath }),
    );
    const listed = await api.getOrganizations();
    const renewed = await config.tokenRefresh();
    config.refreshToken = first.refresh_token;
    return {
      apiDomain: first.api_domain,
      organizations: listed.data.length,
      isNew: renewed.refresh_token !== first.refresh_token,
      again: await refusal(config.tokenRefresh()),
    };
  },
};

const [scenario, url, options] = process.argv.slice(2);
scenarios[scenario](url, JSON.parse(options)).then(
  (result) => console.log(JSON.stringify(result)),
  (error) => { console.error(error); process.exitCode = 1; },
);
