from typing import TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt


class State(TypedDict, total=False):
    topic: str
    text: str
    decision: str
    result: str


def draft(state: State) -> State:
    return {"text": f"News about {state['topic']}"}


def review(state: State) -> State:
    # The question is any value; what comes back is not checked and may take for ever.
    answer = interrupt({"subject": f"Send {state['topic']}?", "body": state["text"]})
    return {"decision": answer["decision"]}


def mail(state: State) -> State:
    return {"result": f"sent {state['text']}"}


builder = StateGraph(State)
builder.add_node(draft)
builder.add_node(review)
builder.add_node(mail)
builder.add_edge(START, "draft")
builder.add_edge("draft", "review")
builder.add_conditional_edges("review", lambda s: "mail" if s["decision"] == "send" else END)
builder.add_edge("mail", END)

if __name__ == "__main__":
    with SqliteSaver.from_conn_string("newsletter.sqlite") as saver:
        graph = builder.compile(checkpointer=saver)
        thread = {"configurable": {"thread_id": "newsletter-1"}}
        graph.invoke({"topic": "otters"}, thread)
        print(graph.invoke(Command(resume={"decision": "send"}), thread)["result"])
