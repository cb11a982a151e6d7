/** A client of Tranche's API: typed by its OpenAPI document, patient with its limits, signed in by its tokens. */

import { setTimeout as pause } from "node:timers/promises";

import createClient, { type Client } from "openapi-fetch";

import type {
  AccountInUseProblem,
  IncompleteProblem,
  NotReadyProblem,
  paths,
  Problem,
  ReauthenticationProblem,
  StalledProblem,
  Tokens,
} from "./schema.js";

export type Api = Client<paths, `${string}/${string}`>;

/** Whatever is refused, told apart by `code`: those after the first carry members of their own. */
export type AnyProblem =
  | Problem
  | IncompleteProblem
  | ReauthenticationProblem
  | AccountInUseProblem
  | NotReadyProblem
  | StalledProblem;

export class Refused extends Error {
  constructor(readonly problem: AnyProblem) {
    super(`${problem.status} ${problem.code}: ${problem.detail} (request ${problem.request_id})`);
  }
}

/** What was answered; throws `Refused` with the problem document. */
export function done<T>(answer: { data: T; error?: never } | { data?: never; error: AnyProblem }): T {
  if (answer.error !== undefined) throw new Refused(answer.error);
  return answer.data;
}

/** Everything below a cursor, page by page. */
export async function* paged<T>(
  page: (cursor: string | undefined) => Promise<{ data: T[]; next_cursor: string | null }>,
): AsyncGenerator<T[]> {
  let cursor: string | undefined;
  do {
    const found = await page(cursor);
    yield found.data;
    cursor = found.next_cursor ?? undefined;
  } while (cursor !== undefined);
}

/** A 429 says how long to wait, and nothing has happened: sent again. Long waits are the caller's to decide. */
async function patiently(request: Request): Promise<Response> {
  for (;;) {
    const answer = await fetch(request.clone());
    const seconds = Number(answer.headers.get("Retry-After") ?? "1");
    if (answer.status !== 429 || seconds > 5) return answer;
    await pause(seconds * 1000);
  }
}

/** Signed in: sends the access token and keeps the refresh token, which is good once. */
export class Session {
  readonly api: Api;
  #tokens: Tokens;
  #refreshing: Promise<void> | undefined;

  constructor(baseUrl: string, tokens: Tokens) {
    this.#tokens = tokens;
    this.api = connect(baseUrl);
    this.api.use({
      onRequest: ({ request }) => {
        request.headers.set("Authorization", `${this.#tokens.token_type} ${this.#tokens.access_token}`);
      },
    });
  }

  get id(): string {
    return this.#tokens.session_id;
  }

  /** The next pair of tokens. In one place at a time: two refreshes with one token end the session. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#next().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #next(): Promise<void> {
    const refresh_token = this.#tokens.refresh_token;
    if (refresh_token === null) throw new Error("these tokens came with the cookie transport");
    this.#tokens = done(await this.api.POST("/api/v1/auth/refresh", { body: { refresh_token } }));
  }
}

/** Nobody is signed in. */
export function connect(baseUrl: string): Api {
  return createClient<paths>({ baseUrl, fetch: patiently });
}
