"""A chat of Pydantic AI as a workflow of Temporal: goes on as new, with its conversation, when Temporal suggests it."""

from pydantic_ai import Agent, ModelMessage
from pydantic_ai.durable_exec.temporal import PydanticAIWorkflow, TemporalDurability
from pydantic_ai.models.function import FunctionModel
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from tests.programs.benchmarks.apps.chat_script import returned, script

agent = Agent(FunctionModel(script), name="talker", capabilities=[TemporalDurability()])


@agent.tool_plain
async def look_up(what: str) -> str:
    """Look it up."""
    return returned(what)


@workflow.defn
class Chat(PydanticAIWorkflow):
    """Answers one message after the other."""

    __pydantic_ai_agents__ = (agent,)

    @workflow.init
    def __init__(self, history: list[ModelMessage]) -> None:
        self.history = history

    @workflow.run
    async def run(self, history: list[ModelMessage]) -> None:
        info = workflow.info
        await workflow.wait_condition(
            lambda: info().is_continue_as_new_suggested() and workflow.all_handlers_finished()
        )
        workflow.continue_as_new(self.history)

    @workflow.update
    async def say(self, text: str) -> str:
        """One turn."""
        result = await agent.run(text, message_history=self.history)
        self.history = result.all_messages()
        return result.output
