"""Cards of waits in Slack's Block Kit, and the reading of what is pressed there. Pure: plain values in and out.

`texts` makes text safe and cuts it, `limits` has Slack's bounds, `message` draws a card, `modal` asks its form, `press`
reads a payload, `reading` turns what was entered into the answer's data.
"""
