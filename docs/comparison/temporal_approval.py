import asyncio
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import Worker

MINUTE = timedelta(minutes=1)


@activity.defn
async def draft(topic: str) -> str:
    return f"News about {topic}"


@activity.defn
async def mail(text: str) -> str:
    return f"sent {text}"


@workflow.defn
class Newsletter:
    def __init__(self) -> None:
        self.decision: str | None = None
        self.asked: dict[str, str] = {}

    @workflow.update
    def verdict(self, decision: str) -> None:
        self.decision = decision

    @verdict.validator
    def check(self, decision: str) -> None:
        # Before anything is stored; its sender gets the error.
        if decision not in ("send", "drop"):
            raise ValueError("decision: 'send' or 'drop'")

    @workflow.query
    def question(self) -> dict[str, str]:
        return self.asked

    @workflow.run
    async def run(self, topic: str) -> str:
        text = await workflow.execute_activity(draft, topic, start_to_close_timeout=MINUTE)
        self.asked = {"subject": f"Send {topic}?", "body": text}
        try:
            await workflow.wait_condition(
                lambda: self.decision is not None, timeout=timedelta(days=7)
            )
        except TimeoutError:
            return "dropped"
        if self.decision == "drop":
            return "dropped"
        retries = RetryPolicy(maximum_attempts=4)
        return await workflow.execute_activity(
            mail, text, start_to_close_timeout=MINUTE, retry_policy=retries
        )


async def main() -> str:
    client = await Client.connect("localhost:7233")
    parts = {"workflows": [Newsletter], "activities": [draft, mail]}
    async with Worker(client, task_queue="news", **parts):
        handle = await client.start_workflow(
            Newsletter.run, "otters", id="newsletter-1", task_queue="news"
        )
        await handle.execute_update(Newsletter.verdict, "send")
        return await handle.result()


if __name__ == "__main__":
    print(asyncio.run(main()))
