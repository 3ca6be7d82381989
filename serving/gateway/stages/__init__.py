"""The four stages that a request passes, each with the parts that all requests share.

In go the settings' parts; `pipeline` calls the stages in their order. A stage is started and stopped as one, and its
`parts` say which settings it takes up while it runs.
"""
