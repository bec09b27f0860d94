"""What the jobs of a replay send: the same message under the same id, unless the replay says otherwise."""

from contracts.ids import MessageId, ReplayId, replayed_message_id
from programs.reconnect import Reconnecting
from store.replay_edits import load_replayed


async def as_replayed(
    database: Reconnecting, replay: ReplayId, message: MessageId, data: bytes
) -> tuple[MessageId, bytes] | None:
    """Return message id and data as a replay wants them; None if the replay is gone.

    The id is derived from the replay's, so it is equal in every attempt.
    """
    replayed = await database.once(lambda opened: load_replayed(opened, replay))
    if replayed is None:
        return None
    return (
        replayed_message_id(message, replay) if replayed.new_message_ids else message,
        data if replayed.data is None else replayed.data,
    )
