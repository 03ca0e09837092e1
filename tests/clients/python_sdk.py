"""Drives a daemon with the published Python package, as its users do. Fails with a traceback."""

import asyncio
import sys

import httpx
from ash_sdk import AshClient, AuthenticatedClient
from ash_sdk.api.agents import get_api_agents_name_files
from ash_sdk.api.credentials import delete_api_credentials_id, get_api_credentials, post_api_credentials
from ash_sdk.api.sessions import get_api_sessions, get_api_sessions_id
from ash_sdk.streaming import DoneEvent, MessageEvent, TextDeltaEvent, ToolUseEvent, TurnCompleteEvent

url, key, folder = sys.argv[1:]


def field(of, name):
    """Of a dictionary or of an object; the package has both."""
    return of[name] if isinstance(of, dict) else getattr(of, name)


def said(events):
    """The result of a turn, of which exactly one end came."""
    assert sum(isinstance(event, DoneEvent) for event in events) == 1 and isinstance(events[-1], DoneEvent), events
    turns = [event for event in events if isinstance(event, TurnCompleteEvent)]
    assert len(turns) == 1, events
    return turns[0].result


client = AshClient(url, token=key)
assert client.health()["status"] == "ok"

agent = client.deploy_agent("sdk", folder)
assert field(agent, "name") == "sdk", agent
assert [field(one, "name") for one in client.list_agents()] == ["sdk"]
assert field(client.get_agent("sdk"), "id") == field(agent, "id")

session = client.create_session("sdk", system_prompt="You answer a test.", extra_env={"COLOUR": "green"})
id = str(field(session, "id"))
assert field(session, "status") == "active", session

events = list(client.send_message_stream(id, "say: one two three four five six seven eight", include_partial_messages=True))
deltas = [event.delta for event in events if isinstance(event, TextDeltaEvent)]
assert len(deltas) > 1 and "".join(deltas) == said(events), events
assert any(isinstance(event, MessageEvent) for event in events), events

events = list(client.send_message_stream(id, "bash: echo $COLOUR > colour && cat colour"))
assert any(isinstance(event, ToolUseEvent) for event in events), events
assert said(events) == "result: green", events


async def again():
    return [event async for event in client.asend_message_stream(id, "bash: cat colour")]


assert said(asyncio.run(again())) == "result: green"

for change, status in [
    (client.pause_session, "paused"),
    (client.resume_session, "active"),
    (client.stop_session, "stopped"),
    (client.resume_session, "active"),
]:
    assert str(field(change(id), "status")).split(".")[-1].lower() == status, (change, status)
assert said(list(client.send_message_stream(id, "bash: cat colour"))) == "result: green", "files outlive a stop"

child = str(field(client.fork_session(id), "id"))
assert child != id
client.resume_session(child)
assert said(list(client.send_message_stream(child, "bash: cat colour"))) == "result: green", "a fork has the files"
client.resume_session(id)

assert {str(field(one, "id")) for one in client.list_sessions(agent="sdk")} == {id, child}
assert str(field(client.get_session(id), "id")) == id

low = AuthenticatedClient(base_url=url, token=key)
detailed = get_api_sessions_id.sync_detailed(id, client=low)
assert detailed.status_code == 200 and str(detailed.parsed.session.id) == id, detailed
assert len(get_api_sessions.sync(client=low).sessions) == 2
listed = get_api_agents_name_files.sync_detailed("sdk", client=low)
assert listed.status_code == 200 and any(file.path == "CLAUDE.md" for file in listed.parsed.files), listed
assert get_api_credentials.sync_detailed(client=low).status_code == 200
assert post_api_credentials and delete_api_credentials_id, "the package has them"

for one in (child, id):
    client.end_session(one)
try:
    list(client.send_message_stream(id, "too late"))
    raise AssertionError("a session that has ended takes a message")
except httpx.HTTPStatusError as error:
    assert error.response.status_code in (400, 404, 410), error
client.delete_agent("sdk")
assert client.list_agents() == []
print("driven")
