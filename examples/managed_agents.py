"""The official SDK against sojourn: another base URL, the same code, any model.

pip install anthropic
sojourn up                                       # prints the base URL and an API key
ANTHROPIC_BASE_URL=… ANTHROPIC_API_KEY=… python examples/managed_agents.py
"""

import anthropic

client = anthropic.Anthropic()
agent = client.beta.agents.create(name="guide", model="scripted:echo", system="You know the way.")
environment = client.beta.environments.create(name=f"of {agent.id}")
session = client.beta.sessions.create(agent=agent.id, environment_id=environment.id)

with client.beta.sessions.events.stream(session.id) as stream:
    client.beta.sessions.events.send(
        session.id,
        events=[{"type": "user.message", "content": [{"type": "text", "text": "Which way to the sea?"}]}],
    )
    for event in stream:
        if event.type == "agent.message":
            print(*(block.text for block in event.content if block.type == "text"))
        elif event.type == "session.status_idle":
            break
