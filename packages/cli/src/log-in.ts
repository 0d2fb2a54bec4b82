import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type * as OpenIdClient from "openid-client";
import { UserError } from "./errors.ts";
import type { Login } from "./login-file.ts";

type Tokens = Awaited<ReturnType<typeof OpenIdClient.refreshTokenGrant>>;

/** How a login tells what its user has to do. */
interface Telling {
  readonly signal: AbortSignal;
  /** The page to open in a browser; with a code to compare on a device. */
  readonly show: (url: string, code?: string) => void;
}

/** How long somebody may take in the browser, in milliseconds. */
const patienceMs = 10 * 60_000;

/** Logs in with the browser of this computer: by an authorization code for a loopback address (RFC 8252), which only we can use (RFC 7636). */
export async function logInByBrowser(url: string, { signal, show }: Telling): Promise<Login> {
  const { client, config } = await discover(url);
  const pkceCodeVerifier = client.randomPKCECodeVerifier();
  const expectedState = client.randomState();
  const ended = Promise.withResolvers<Tokens>();
  const server = createServer((request, response) => {
    const shown = new URL(request.url ?? "/", redirectUri);
    if (shown.pathname !== "/" || shown.searchParams.get("state") !== expectedState) {
      response.writeHead(404).end();
      return;
    }
    const exchange = client.authorizationCodeGrant(config, shown, { pkceCodeVerifier, expectedState });
    exchange.then(ended.resolve, ended.reject);
    const answer = (words: string) =>
      response.writeHead(200, { "content-type": "text/plain; charset=utf-8", connection: "close" }).end(words);
    exchange.then(
      () => answer("You are logged in. You can close this page."),
      () => answer("You are not logged in; the terminal says why."),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const redirectUri = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const leave = () => ended.reject(signal.reason);
  signal.addEventListener("abort", leave, { once: true });
  const timer = setTimeout(() => ended.reject(new UserError("Nobody logged in for ten minutes.")), patienceMs);
  try {
    const codeChallenge = await client.calculatePKCECodeChallenge(pkceCodeVerifier);
    const page = client.buildAuthorizationUrl(config, {
      redirect_uri: redirectUri,
      code_challenge: codeChallenge,
      code_challenge_method: "S256",
      state: expectedState,
    });
    show(page.href);
    return toLogin(url, await explained(ended.promise));
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", leave);
    server.close();
  }
}

/** Logs in with a browser elsewhere, by the code that is shown here (RFC 8628). */
export async function logInByDevice(url: string, { signal, show }: Telling): Promise<Login> {
  const { client, config } = await discover(url);
  const begun = await explained(client.initiateDeviceAuthorization(config, {}));
  show(begun.verification_uri_complete ?? begun.verification_uri, begun.user_code);
  return toLogin(url, await explained(client.pollDeviceAuthorizationGrant(config, begun, undefined, { signal })));
}

/** A new access token and refresh token for a login, whose refresh token is used up by that. */
export async function refresh({ url, refreshToken }: Login): Promise<Login> {
  const { client, config } = await discover(url);
  return toLogin(url, await explained(client.refreshTokenGrant(config, refreshToken)));
}

/** Ends a login at its berthd. */
export async function revoke({ url, refreshToken }: Login): Promise<void> {
  const { client, config } = await discover(url);
  await explained(client.tokenRevocation(config, refreshToken));
}

/** Loaded when somebody logs in or a token is renewed: most commands need none of it. */
async function discover(url: string) {
  const client = await import("openid-client");
  const execute = url.startsWith("http:") ? [client.allowInsecureRequests] : [];
  const found = client.discovery(new URL(url), "berth-cli", undefined, client.None(), { algorithm: "oauth2", execute });
  return { client, config: await explained(found) };
}

function toLogin(url: string, tokens: Tokens): Login {
  const { access_token: accessToken, refresh_token: refreshToken, expires_in: seconds = 0 } = tokens;
  if (!refreshToken) throw new UserError("berthd gave no refresh token.");
  return { url, accessToken, refreshToken, expiresAt: Date.now() + seconds * 1000 };
}

/** An error of the library in words for the user: berthd's own where it gave some. */
async function explained<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof UserError || !(error instanceof Error) || error.name === "AbortError") throw error;
    const { error: code, error_description: words } = error as { error?: string; error_description?: string };
    if (code === "access_denied") throw new UserError("The login was refused in the browser.");
    throw new UserError(words ?? `The login failed: ${reasonOf(error)}.`, "Log in again: berth login");
  }
}

function reasonOf(error: Error): string {
  const cause = error.cause instanceof Error ? error.cause.message : undefined;
  return cause && cause !== error.message ? `${error.message} (${cause})` : error.message;
}
