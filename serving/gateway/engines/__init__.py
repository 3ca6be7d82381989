"""The engines behind the gateway: found, watched, connected to.

In come addresses (a list, DNS, Kubernetes); out go `Engine`s with their health, load and models, and an
`UpstreamResponse` for each request sent to one. Nothing here knows what a request asks.
"""
