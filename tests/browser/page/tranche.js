// A client for pages: refresh token in a cookie, passkeys, the live stream. docs/api.md tells why each step is so.

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** What the API refused: its problem document. */
export class Problem extends Error {
  constructor(document) {
    super(document.detail ?? document.title);
    Object.assign(this, document);
  }
}

export class Tranche {
  #access = null; // In memory only: no other script's storage, and gone with the page.
  #flow = null;

  constructor({ api, stream, csrfCookie }) {
    this.api = api;
    this.stream = stream;
    this.csrfCookie = csrfCookie;
  }

  get signedIn() {
    return this.#access !== null;
  }

  /** An answer's JSON, or null. Throws Problem. Waits when asked to, refreshes once when the access token is over. */
  async send(method, path, body, headers = {}) {
    for (let again = true; ; ) {
      const answer = await fetch(`${this.api}/api/v1/${path}`, {
        method,
        credentials: "include",
        headers: {
          ...(this.#access && { Authorization: `Bearer ${this.#access}` }),
          ...(this.#flow && { "X-Session-Token": this.#flow }),
          ...(path.startsWith("auth/") && { "X-Token-Transport": "cookie" }),
          ...(body !== undefined && { "Content-Type": "application/json" }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      const document = answer.status === 204 ? null : await answer.json();
      if (answer.status === 429) {
        await wait(1000 * Number(answer.headers.get("Retry-After")));
      } else if (document?.code === "invalid_access_token" && again) {
        again = false;
        await this.refresh();
      } else {
        this.#keep(document);
        if (!answer.ok) throw new Problem(document);
        return document;
      }
    }
  }

  #keep(document) {
    this.#flow = document?.session_token ?? this.#flow;
    if (document?.access_token) {
      this.#access = document.access_token;
      this.#flow = null;
    }
  }

  /** In one tab at a time: of two that show one refresh token, the second would end the session. */
  async refresh() {
    const stale = this.#access;
    await navigator.locks.request("tranche-refresh", async () => {
      if (this.#access !== stale) return; // Somebody here did it while we waited.
      this.#access = null;
      await this.send("POST", "auth/refresh", {}, { "X-CSRF-Token": this.csrfToken() });
    });
  }

  /** Of the cookie beside the one that no script reads. */
  csrfToken() {
    const pairs = document.cookie.split("; ").map((pair) => pair.split("="));
    return pairs.find(([name]) => name === this.csrfCookie)?.[1] ?? "";
  }

  async passkeyAdd(name) {
    const { options } = await this.send("POST", "auth/passkeys/options", { passwordless: true });
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options.publicKey);
    const made = await navigator.credentials.create({ publicKey });
    return await this.send("POST", "auth/passkeys", { name, credential: made.toJSON() });
  }

  /** `path`: `auth/sign-in/passkey`, `auth/sign-in/factor/passkey` or `auth/step-up/passkey`. */
  async passkeyShow(path) {
    const { options } = await this.send("POST", `${path}/options`);
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options.publicKey);
    const shown = await navigator.credentials.get({ publicKey });
    return await this.send("POST", path, { credential: shown.toJSON() });
  }

  async signOut({ everywhere = false } = {}) {
    await (everywhere ? this.send("DELETE", "sessions") : this.send("POST", "auth/sign-out"));
    this.#access = null;
  }

  /** Every event after the one whose number is `last`, for as long as one is signed in; ends when one no longer is. */
  async *events(last, { opened = () => {} } = {}) {
    for (let retry = 1000; this.#access !== null; await wait(retry)) {
      const headers = { Authorization: `Bearer ${this.#access}`, ...(last && { "Last-Event-ID": last }) };
      let closed = "lost";
      try {
        const answer = await fetch(`${this.stream}/api/v1/stream`, { headers });
        if (answer.status === 401) closed = "revoked";
        if (!answer.ok) throw new Problem(await answer.json());
        for await (const block of blocks(answer.body)) {
          retry = Number(block.retry ?? retry);
          last = block.id ?? last;
          if (block.event === "stream.closed") closed = JSON.parse(block.data).reason;
          else if (block.data) yield JSON.parse(block.data);
          else if (block.id) opened(block.id);
        }
      } catch (problem) {
        console.debug("the stream broke off", problem.message);
      }
      if (closed === "revoked" || closed === "expired") await this.refresh().catch(() => {});
    }
  }
}

/** Blocks of a server-sent stream as {id, event, data, retry}. */
async function* blocks(body) {
  let text = "";
  for await (const part of body.pipeThrough(new TextDecoderStream())) {
    const whole = (text + part).split("\n\n");
    text = whole.pop();
    for (const block of whole) {
      const lines = block.split("\n").filter((line) => line && !line.startsWith(":"));
      if (lines.length) yield Object.fromEntries(lines.map((line) => line.split(/: (.*)/s, 2)));
    }
  }
}
