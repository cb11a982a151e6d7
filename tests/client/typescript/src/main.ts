/**
 * A person's first day with Tranche, by the generated client alone: sign up, prove the email, sign in, pay in, set up
 * a plan, and watch it buy. Says as its last line, in JSON, what came of it; ends with 1 when anything is not as it
 * should be.
 *
 * API_URL and STREAM_URL say where Tranche is. DESK_URL is what a program lacks of a person: a mailbox and a wallet.
 */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import { connect, done, paged, Session } from "./api.js";
import { units } from "./money.js";
import type { Deposit, Event, PlanRequest, SlotDetail } from "./schema.js";
import { listen } from "./stream.js";

const API_URL = variable("API_URL");
const STREAM_URL = variable("STREAM_URL");
const DESK_URL = variable("DESK_URL");

const EMAIL = `ada-${randomUUID().slice(0, 8)}@example.org`;
const PASSWORD = "plough-Ganymede-46";
const PAID = "125.000001";
const PLAN: PlanRequest = {
  name: "Ether, once",
  market: "USDC/WETH",
  amount: "100",
  max_slippage_bps: 100,
  schedule: { kind: "hourly", time_zone: "UTC", max_runs: 1 },
};

function variable(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}

/** Six digits of the mail that was sent to this address. */
async function codeMailed(): Promise<string> {
  const answer = await fetch(`${DESK_URL}/code?to=${encodeURIComponent(EMAIL)}`);
  assert.equal(answer.status, 200);
  const code = await answer.text();
  assert.match(code, /^[0-9]{6}$/);
  return code;
}

/** Tokens sent on chain, from a wallet that the platform knows nothing of. */
async function pay(address: string, asset: string, amount: bigint): Promise<void> {
  const query = new URLSearchParams({ address, asset, units: String(amount) });
  const answer = await fetch(`${DESK_URL}/pay?${query}`, { method: "POST" });
  assert.equal(answer.status, 200, await answer.text());
}

async function signUp(): Promise<void> {
  const api = connect(API_URL);
  const status = done(await api.GET("/api/v1/platform/status"));
  assert.deepEqual([status.state, status.sign_up], ["live", "open"]);

  // Bad input: a problem document that points at what is wrong.
  const weak = await api.POST("/api/v1/auth/sign-up", { body: { email: EMAIL, password: "short" } });
  assert.equal(weak.error?.code, "validation_failed");
  assert.deepEqual(
    weak.error.errors.map((entry) => [entry.pointer, entry.code]),
    [["/password", "password_too_short"]],
  );
  assert.equal(weak.error.request_id, weak.response.headers.get("X-Request-Id"));

  // 401 `authentication_incomplete` is no failure: its own members say how it goes on.
  const begun = await api.POST("/api/v1/auth/sign-up", { body: { email: EMAIL, password: PASSWORD } });
  if (begun.error?.code !== "authentication_incomplete") throw new Error("the sign-up was not begun");
  const { flows, session_token } = begun.error;
  assert.equal(flows[0]?.id, "verify_email");
  assert(session_token !== null);

  const header = { "X-Session-Token": session_token, "X-Token-Transport": "body" } as const;
  const code = await codeMailed();
  const other = code === "000000" ? "000001" : "000000";
  const wrong = await api.POST("/api/v1/auth/verify", { params: { header }, body: { code: other } });
  assert.equal(wrong.error?.code, "wrong_code");
  const verified = done(await api.POST("/api/v1/auth/verify", { params: { header }, body: { code } }));
  assert.equal(verified.user.email, EMAIL);
  assert.equal(verified.token_type, "Bearer");
}

async function signIn(): Promise<Session> {
  const api = connect(API_URL);
  const wrong = await api.POST("/api/v1/auth/sign-in", { body: { email: EMAIL, password: "not-Ganymede-46" } });
  assert.equal(wrong.error?.code, "wrong_credentials");
  const params = { header: { "X-Token-Transport": "body" } } as const;
  const signedIn = done(
    await api.POST("/api/v1/auth/sign-in", { params, body: { email: EMAIL, password: PASSWORD } }),
  );
  assert.equal(signedIn.expires_in, 15 * 60);
  assert.equal(signedIn.csrf_token, null);
  return new Session(API_URL, signedIn);
}

/** Reads the stream from after the last event that is there, up to the first that is `wanted`. */
async function until(session: Session, seen: Event[], wanted: Event["topic"]): Promise<string> {
  for await (const event of listen(session.api, STREAM_URL, seen.length)) {
    seen.push(event);
    if (event.topic !== wanted) continue;
    assert(event.object !== null);
    return event.object.id;
  }
  throw new Error(`the stream ended before ${wanted}`);
}

async function paidIn(session: Session, seen: Event[]): Promise<Deposit> {
  const { api } = session;
  const [own] = done(await api.GET("/api/v1/deposit-addresses")).data;
  const usdc = own?.accepted.find((one) => one.asset === "USDC");
  assert(own !== undefined && usdc !== undefined);
  assert.equal(usdc.status, "running");
  const amount = units(PAID, usdc.decimals);
  await pay(own.address, "USDC", amount);

  const deposit_id = await until(session, seen, "deposit.credited");
  const deposit = done(await api.GET("/api/v1/deposits/{deposit_id}", { params: { path: { deposit_id } } }));
  assert.equal(deposit.state, "credited");
  assert.equal(BigInt(deposit.credited_units), amount);
  assert.equal(deposit.credited, PAID);
  return deposit;
}

async function planned({ api }: Session): Promise<string> {
  // Bad values are all told at once, each by its place; nothing is made.
  const bad = await api.POST("/api/v1/plans", {
    params: { header: { "Idempotency-Key": randomUUID() } },
    body: { ...PLAN, amount: "1e3", schedule: { ...PLAN.schedule, time_zone: "Mars/Olympus" } },
  });
  assert.equal(bad.error?.code, "validation_failed");
  assert.deepEqual(bad.error.errors.map((entry) => [entry.pointer, entry.code]).sort(), [
    ["/amount", "invalid_amount"],
    ["/schedule/time_zone", "unknown_timezone"],
  ]);

  const fine = await api.POST("/api/v1/plans", {
    params: { header: { "Idempotency-Key": randomUUID() } },
    body: { ...PLAN, amount: "1.0000001" },
  });
  assert.equal(fine.error?.code, "validation_failed");
  assert.deepEqual(fine.error.errors.map((entry) => entry.code), ["too_many_decimals"]);

  const header = { "Idempotency-Key": randomUUID() };
  const made = await api.POST("/api/v1/plans", { params: { header }, body: PLAN });
  const plan = done(made);
  assert.equal(made.response.status, 201);
  assert.deepEqual([plan.state, plan.amount, plan.amount_units], ["active", "100", "100000000"]);

  // Sent again, as after a lost answer: the same plan. With another body the key is refused.
  const again = await api.POST("/api/v1/plans", { params: { header }, body: PLAN });
  assert.equal(done(again).id, plan.id);
  assert.equal(again.response.headers.get("Idempotent-Replayed"), "true");
  const reused = await api.POST("/api/v1/plans", { params: { header }, body: { ...PLAN, amount: "50" } });
  assert.equal(reused.error?.code, "idempotency_key_reused");
  assert.equal(reused.error.status, 422);

  const plans = done(await api.GET("/api/v1/plans", { params: { query: { limit: 10 } } }));
  assert.deepEqual(plans.data.map((one) => one.id), [plan.id]);
  return plan.id;
}

async function settled(session: Session, plan_id: string, seen: Event[]): Promise<SlotDetail> {
  const slot_id = await until(session, seen, "execution.settled");
  const { api } = session;
  const slot = done(await api.GET("/api/v1/slots/{slot_id}", { params: { path: { slot_id } } }));
  assert.deepEqual([slot.plan_id, slot.number, slot.state, slot.reason], [plan_id, 1, "settled", "filled"]);
  assert(slot.fee_units !== null && slot.swapped_units !== null && slot.received_units !== null);
  assert.equal(BigInt(slot.amount_units), BigInt(slot.fee_units) + BigInt(slot.swapped_units));
  assert(BigInt(slot.received_units) > 0n);
  assert.equal(slot.transaction?.state, "confirmed");
  assert(slot.why.length > 0 && slot.journals.length > 0);

  const params = { path: { plan_id }, query: { state: "settled" } } as const;
  const listed = done(await api.GET("/api/v1/plans/{plan_id}/slots", { params }));
  assert.deepEqual(listed.data.map((one) => one.id), [slot_id]);
  return slot;
}

/** Every base unit is where the deposit and the slot say. */
async function balanced({ api }: Session, deposit: Deposit, slot: SlotDetail): Promise<void> {
  const balances = done(await api.GET("/api/v1/balances")).data;
  assert.deepEqual(
    Object.fromEntries(balances.map((row) => [row.asset, [BigInt(row.available_units), BigInt(row.held_units)]])),
    {
      USDC: [BigInt(deposit.credited_units) - BigInt(slot.amount_units), 0n],
      WETH: [BigInt(slot.received_units ?? "0"), 0n],
    },
  );
  for (const row of balances) assert.equal(units(row.total, row.decimals), BigInt(row.total_units));
}

/** The list, two at a time by its cursor, has what the stream told, and what came since. */
async function reread({ api }: Session, seen: Event[]): Promise<number> {
  const found: Event[] = [];
  let pages = 0;
  const list = async (cursor: string | undefined) => {
    const query = { limit: 2, ...(cursor === undefined ? {} : { cursor }) };
    return done(await api.GET("/api/v1/events", { params: { query } }));
  };
  for await (const page of paged(list)) {
    assert(page.length <= 2);
    found.push(...page);
    pages += 1;
  }
  assert.deepEqual(found.map((event) => event.sequence), found.map((_, index) => index + 1));
  assert.deepEqual(found.slice(0, seen.length), seen);

  const bad = await api.GET("/api/v1/events", { params: { query: { cursor: "nonsense" } } });
  assert.equal(bad.error?.code, "invalid_cursor");
  assert.equal(bad.error.errors[0]?.parameter, "cursor");
  return pages;
}

async function signOut({ api, id }: Session): Promise<void> {
  const sessions = done(await api.GET("/api/v1/sessions")).data;
  assert.equal(sessions.find((one) => one.current)?.id, id);
  assert.equal(sessions.find((one) => one.current)?.transport, "body");
  assert.equal((await api.POST("/api/v1/auth/sign-out")).response.status, 204);
  const over = await api.GET("/api/v1/me");
  assert.equal(over.error?.code, "invalid_access_token");
}

const seen: Event[] = [];
await signUp();
const session = await signIn();
const me = done(await session.api.GET("/api/v1/me"));
assert.deepEqual([me.email, me.email_verified, me.factors], [EMAIL, true, []]);
const deposit = await paidIn(session, seen);
const planId = await planned(session);
// While both are good: from here on with the next pair, the stream too.
await session.refresh();
const slot = await settled(session, planId, seen);
await balanced(session, deposit, slot);
const pages = await reread(session, seen);
await signOut(session);
console.log(
  JSON.stringify({
    email: EMAIL,
    plan: planId,
    slot: slot.id,
    credited: deposit.credited_units,
    amount: slot.amount_units,
    received: slot.received_units,
    topics: seen.map((event) => event.topic),
    pages,
  }),
);
