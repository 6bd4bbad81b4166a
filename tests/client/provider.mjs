// A real provider: oidc-provider with its development interactions (any login, any password).
import { Provider } from "oidc-provider";
import { createServer } from "node:http";

// With "userinfo" groups stand in no ID token, as the standard has it for claims of a scope.
const byUserinfo = process.argv[2] === "userinfo";
const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: "helmr",
      token_endpoint_auth_method: "none",
      application_type: "native",
      grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
      redirect_uris: ["http://127.0.0.1/callback", "http://127.0.0.1/sign-in/callback"],
      response_types: ["code"],
    }],
    claims: { openid: byUserinfo ? ["sub", "email", "email_verified"] : ["sub"], email: ["email", "email_verified"], profile: ["groups"] },
    conformIdTokenClaims: byUserinfo,
    scopes: ["openid", "email", "profile", "offline_access"],
    features: { deviceFlow: { enabled: true }, revocation: { enabled: true }, devInteractions: { enabled: true } },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: id !== "eve", groups: [id === "cy" ? "sales" : "finance"] }),
    }),
    rotateRefreshToken: true,
    issueRefreshToken: (_, client, code) => code.scopes.has("offline_access"),
  });
  server.on("request", provider.callback());
  process.stdout.write(`${issuer}\n`);
});
