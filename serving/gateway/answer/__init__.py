"""From the engines to the client: asked, relayed, judged, recorded and sent."""
