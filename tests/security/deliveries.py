"""GitHub's own webhook body with the signature that GitHub's own signer gives it; none of it is made by our code.

The body is a `pull_request` webhook that GitHub publishes (see the README beside it). Its signature was made by
`sign("It's a Secret to Everybody", body)` of the npm package `@octokit/webhooks-methods` 6.0.0, which GitHub maintains
and which signs as its servers do; the secret is that of GitHub's documentation.
"""

from __future__ import annotations

from importlib.resources import files

DELIVERY = files("helmr.examples").joinpath("data/pull_request.opened.json").read_bytes()
DELIVERY_SECRET = "It's a Secret to Everybody"
DELIVERY_HEADERS = {
    "content-type": "application/json",
    "x-github-event": "pull_request",
    "x-hub-signature-256": "sha256=cc4beb2d0a5ec5baaa5bd2dc0b0b30752681d7482160f8846e48ef5eb8834f46",
}
