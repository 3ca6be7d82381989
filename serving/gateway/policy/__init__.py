"""The policy's two steps: questions are judged before they wait in the fair queue, answers before they are released."""

from serving.gateway.policy.steps import PolicySteps

__all__ = ["PolicySteps"]
