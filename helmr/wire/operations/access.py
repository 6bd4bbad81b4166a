"""Access: keys, people and their pages."""

from __future__ import annotations

from helmr.models import (
    ApiKeyInfo,
    ApiKeyReceipt,
    ApiKeyRequest,
    DelegateRequest,
    DelegationInfo,
    DisableRequest,
    FileKeyInfo,
    ListQuery,
    NoFields,
    Page,
    PersonInfo,
    PublicTokenInfo,
    PublicTokenReceipt,
    PublicTokenRequest,
    RevokeKeyRequest,
    SigningKeyRequest,
    SignInInfo,
    WhoAmI,
)
from helmr.wire.operation import EVENTS, PAGE, Operation, Repeat
from helmr.wire.roles import Need, Owner

# A table is read row by row.
# fmt: off

# Public tokens and keys ---------------------------------------------------------------------------

CREATE_PUBLIC_TOKEN = Operation(
    "auth.create_public_token", "POST /v1/public-tokens", Need.DELEGATE,
    "Make a public token for what the key may do itself. Its secret is shown here and never again.",
    description="Answers 201 with `public_access_token`. `scope` is `{type, session, stream, token, "
    "correlation_id}`; types are `session.input.send`, `session.output.read`, `token.complete`. "
    "`expires_in` is a duration, `\"30d\"`.",
    service="public_tokens.create", body=PublicTokenRequest, reply=PublicTokenReceipt, status=201,
    problems=(404, 409), repeat=Repeat.ONCE)
LIST_PUBLIC_TOKENS = Operation(
    "auth.list", "GET /v1/public-tokens", Need.READ,
    "List public tokens, newest first, with the uses they have left.",
    description="With `uses_left` and `last_used_at`. Answer links are listed with them, as `wait.answer`.",
    service="public_tokens.list", query=ListQuery, reply=Page[PublicTokenInfo])
REVOKE_PUBLIC_TOKEN = Operation(
    "auth.revoke", "DELETE /v1/public-tokens/{public_token_id}", Need.DELEGATE,
    "Revoke a public token that the same key has made; the role admin revokes any. Revoking again changes nothing.",
    service="public_tokens.revoke", owner=Owner.OWN, reply=PublicTokenInfo, problems=(404, 409), repeat=Repeat.ONCE)
CREATE_API_KEY = Operation(
    "keys.create", "POST /v1/api-keys", Need.ADMINISTER, "Make an API key. Its secret is shown here and never again.",
    description="`role` is admin, operator, sender, viewer or asker. With `person` in its place the key is that "
    "person's: they may do by it what they may. `expires_in` is a duration. Answers 201 with `secret`.",
    service="api_keys.create", body=ApiKeyRequest, reply=ApiKeyReceipt, status=201, problems=(404, 409),
    repeat=Repeat.ONCE)
LIST_API_KEYS = Operation(
    "keys.list", "GET /v1/api-keys", Need.ADMINISTER, "List API keys, newest first.",
    service="api_keys.list", query=ListQuery, reply=Page[ApiKeyInfo])
REVOKE_API_KEY = Operation(
    "keys.revoke", "DELETE /v1/api-keys/{key_id}", Need.ADMINISTER,
    "Revoke an API key. Revoking again changes nothing.",
    service="api_keys.revoke", reply=ApiKeyInfo, problems=(404, 409), repeat=Repeat.ONCE)
LIST_FILE_KEYS = Operation(
    "keys.public", "GET /v1/file-keys", Need.READ,
    "List the public keys that verify this runtime's session files, the newest first.",
    description="Each is `{id, key}`.",
    service="session_files.keys", reply=Page[FileKeyInfo])

# People -------------------------------------------------------------------------------------------

WHO_AM_I = Operation(
    "people.whoami", "GET /v1/whoami", Need.IDENTIFY, "Say who the caller is, and what they may do.",
    description="Answers `{principal, role, person, groups_at, expires_at}`; `person` is null for a service's key.",
    reply=WhoAmI)
HOW_TO_SIGN_IN = Operation(
    "people.sign_in", "GET /v1/sign-in", Need.NOTHING,
    "Say where people sign in: the OpenID Connect issuer, and the client id.",
    description="Send an ID token of that issuer as you send a key: `Authorization: Bearer …`; where "
    "`needs_access_token` says so, also the access token: `Helmr-Access-Token: …`.",
    service="sign_ins.info", reply=SignInInfo)
LIST_PEOPLE = Operation(
    "people.list", "GET /v1/people", Need.READ,
    "List people by id: those of the runtime's configuration, and others who have signed in or are disabled.",
    query=ListQuery, reply=Page[PersonInfo])
GET_PERSON = Operation(
    "people.get", "GET /v1/people/{person}", Need.READ, "Get a person, by id or e-mail.",
    reply=PersonInfo, problems=(404,))
DISABLE_PERSON = Operation(
    "people.disable", "POST /v1/people/{person}/disable", Need.ADMINISTER,
    "Let a person act no more. Their keys and answer links end at once, their claims and assignments are given back.",
    description="Disabling again gives back what they have got meanwhile.",
    body=DisableRequest, reply=PersonInfo, problems=(404, 409), repeat=Repeat.ONCE)
ENABLE_PERSON = Operation(
    "people.enable", "POST /v1/people/{person}/enable", Need.ADMINISTER,
    "Let a person act again. What disabling ended stays ended.",
    body=NoFields, reply=PersonInfo, problems=(404, 409), repeat=Repeat.ONCE)
UNBIND_PERSON = Operation(
    "people.unbind", "POST /v1/people/{person}/unbind", Need.ADMINISTER,
    "Forget the account with which a person has signed in; the next sign-in with their e-mail binds the new one.",
    body=NoFields, reply=PersonInfo, problems=(404, 409), repeat=Repeat.ONCE)

ADD_SIGNING_KEY = Operation(
    "people.add_key", "POST /v1/people/{person}/keys", Need.ADMINISTER,
    "Register a public SSH key that signs a person's answers.",
    description="`key` is the line of a `.pub` file. A key that is another person's, or was revoked, is 409.",
    body=SigningKeyRequest, reply=PersonInfo, problems=(404, 409), repeat=Repeat.ONCE)
REVOKE_SIGNING_KEY = Operation(
    "people.revoke_key", "POST /v1/people/{person}/keys/revoke", Need.ADMINISTER,
    "Revoke a key that signs a person's answers, by its fingerprint. What it has signed stays signed.",
    body=RevokeKeyRequest, reply=PersonInfo, problems=(404, 409), repeat=Repeat.ONCE)

DELEGATE = Operation(
    "people.delegate", "POST /v1/people/{person}/delegations", Need.ANSWER,
    "Make another person their deputy, who answers for them for a while.",
    description="By the person, or by an admin with a `reason`; no one makes themselves a deputy. `ends_at` is at most "
    "90 days from now. `tasks`, `streams` and `tags` narrow it. Answers 201.",
    body=DelegateRequest, reply=DelegationInfo, status=201, problems=(404, 409), repeat=Repeat.ONCE)
LIST_DELEGATIONS = Operation(
    "people.delegations", "GET /v1/delegations", Need.READ,
    "List the delegations that hold now or will, the oldest first.",
    query=ListQuery, reply=Page[DelegationInfo])
UNDELEGATE = Operation(
    "people.undelegate", "POST /v1/delegations/{delegation_id}/end", Need.ANSWER,
    "End a delegation before its time. What the deputy answered stays.",
    description="By either of the two people, or an admin. Ending it again changes nothing.",
    body=NoFields, reply=DelegationInfo, problems=(404, 409), repeat=Repeat.ONCE)

# Pages for people ---------------------------------------------------------------------------------

SHOW_HOME: Operation[bytes] = Operation(
    "", "GET /", Need.NOTHING, "Show in a browser that the runtime runs, and where its inbox is.",
    description="How many questions wait is said only to those who may see them. A program gets 404.",
    tag="pages", reply=PAGE, problems=(404, 429))
SHOW_SIGN_IN: Operation[bytes] = Operation(
    "", "GET /sign-in", Need.NOTHING, "Show the page where a person signs in, or who is signed in.",
    description="`?next=` is a page of this runtime to come back to. 404 where the runtime knows no people.",
    tag="pages", reply=PAGE, problems=(404, 429))
SHOW_LOCAL_SIGN_IN: Operation[bytes] = Operation(
    "", "GET /sign-in/local", Need.NOTHING,
    "Show the page behind a one-time link of `helmr inbox-link`, which that does not spend.",
    tag="pages", reply=PAGE, problems=(403, 429))
SIGN_IN_LOCALLY: Operation[bytes] = Operation(
    "", "POST /sign-in/local", Need.NOTHING,
    "Take that page's form: sign the local admin in, on this machine, once.",
    tag="pages", reply=PAGE, others={303: "Signed in; to the inbox"}, problems=(400, 403, 413, 415, 429),
    repeat=Repeat.AGAIN)
SIGN_IN_AT_ISSUER: Operation[bytes] = Operation(
    "", "GET /sign-in/issuer", Need.NOTHING, "Send the browser to the issuer, with state, nonce and PKCE challenge.",
    tag="pages", reply=PAGE, others={303: "To the issuer"}, problems=(404, 429, 503))
FINISH_SIGN_IN: Operation[bytes] = Operation(
    "", "GET /sign-in/callback", Need.NOTHING,
    "Take the issuer's answer from the browser that asked, and set its cookie.",
    description="`?code=`, `?state=`, `?iss=`. The redirect URI to register with the issuer.",
    tag="pages", reply=PAGE, others={303: "Signed in; back to where the person came from"},
    problems=(401, 404, 409, 429, 503))
SIGN_IN_BY_KEY: Operation[bytes] = Operation(
    "", "POST /sign-in", Need.NOTHING, "Take the sign-in page's form with a personal key, and set a cookie.",
    tag="pages", reply=PAGE, others={303: "Signed in; back to where the person came from"},
    problems=(400, 401, 404, 409, 413, 415, 429, 503), repeat=Repeat.AGAIN)
SIGN_OUT: Operation[bytes] = Operation(
    "", "POST /sign-out", Need.NOTHING, "Take a page's form that signs out: the cookie opens nothing from now on.",
    tag="pages", reply=PAGE, others={303: "Signed out; to the page where people sign in"},
    problems=(400, 413, 415, 429), repeat=Repeat.AGAIN)

SHOW_INBOX: Operation[bytes] = Operation(
    "", "GET /inbox", Need.PAGE, "Show what waits for the person who is signed in, soonest end first.",
    description="`?show=` is `open`, `mine`, `voted` or `answered`; `?task=`, `?priority=`, `?tag=` and `?cursor=` as "
    "in the list of waits. Without a sign-in 303 to `/sign-in`.",
    tag="pages", reply=PAGE, others={303: "To the page where people sign in"}, problems=(400, 401, 429, 503))
FOLLOW_INBOX: Operation[bytes] = Operation(
    "", "GET /inbox/events", Need.PAGE,
    "Send word, `changed`, when something of the inbox may have changed. Says no more than that.",
    tag="pages", reply=EVENTS, problems=(401, 429, 503))
SHOW_INBOX_WAIT: Operation[bytes] = Operation(
    "", "GET /inbox/{wait_id}", Need.PAGE,
    "Show a wait that the person may answer or has answered, with its form or how it ended.",
    tag="pages", reply=PAGE, others={303: "To the page where people sign in"}, problems=(401, 404, 429, 503))
ANSWER_INBOX_WAIT: Operation[bytes] = Operation(
    "", "POST /inbox/{wait_id}", Need.PAGE,
    "Take a form of that page: the person's answer, their vote taken back, their claim, or to whom the wait goes.",
    description="After the form 303, back to the page. Without a sign-in 403, a page that keeps what was typed.",
    tag="pages", reply=PAGE, others={303: "A form was taken"},
    problems=(400, 401, 403, 404, 409, 410, 413, 415, 422, 429, 503), repeat=Repeat.AGAIN)

# fmt: on
