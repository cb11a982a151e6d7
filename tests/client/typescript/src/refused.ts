/**
 * What the document says must not be sent or read, said to the compiler: each line marked so does not compile, and the
 * compiler complains about a mark that stands before a line which does.
 */

import { connect } from "./api.js";
import type { Event, PlanRequest, Slot } from "./schema.js";

const api = connect("http://127.0.0.1:1");
const schedule = { kind: "daily", at: "09:00", time_zone: "Europe/Berlin" } as const;
const plan = { name: "Ether", market: "USDC/WETH", amount: "25", schedule };

export async function neverCalled(slot: Slot, event: Event): Promise<void> {
  const params = { header: { "Idempotency-Key": "1" } };
  // @ts-expect-error: what moves money wants an Idempotency-Key
  await api.POST("/api/v1/plans", { body: plan });
  // @ts-expect-error: an amount is a decimal string, never a number
  await api.POST("/api/v1/plans", { params, body: { ...plan, amount: 25 } });
  // @ts-expect-error: there is no such kind of schedule
  await api.POST("/api/v1/plans", { params, body: { ...plan, schedule: { ...schedule, kind: "yearly" } } });
  // @ts-expect-error: unknown fields are refused
  const painted: PlanRequest = { ...plan, colour: "red" };
  // @ts-expect-error: there is no such path
  await api.GET("/api/v1/plan");
  // @ts-expect-error: a plan may have no budget
  const budget: string = (await api.GET("/api/v1/plans")).data?.data[0]?.total_budget ?? null;
  // @ts-expect-error: the refusals of a list carry no flows
  const flows: unknown = (await api.GET("/api/v1/plans")).error?.flows;
  // @ts-expect-error: no slot is in this state
  const gone: boolean = slot.state === "vanished";
  // @ts-expect-error: nothing is told under this topic
  const told: boolean = event.topic === "execution.imagined";
  // @ts-expect-error: what a slot received is not known before it has settled
  const received: bigint = BigInt(slot.received_units);
  void [painted, budget, flows, gone, told, received];

  // Optional is what may be left out, also where the server has a default for it.
  await api.POST("/api/v1/auth/sign-up", { body: { email: "a@example.org", password: "plough-Ganymede-46" } });
  const key = await api.POST("/api/v1/api-keys", { body: { name: "Accounting", scopes: ["balances:read"] } });
  if (key.error?.code === "reauthentication_required") {
    const { flows, max_age } = key.error;
    const page: "reauthenticate" | "mfa_reauthenticate" | undefined = first(flows[0]?.id);
    void [page, max_age];
  }
}

function first(id: string | undefined): "reauthenticate" | "mfa_reauthenticate" | undefined {
  return id === "reauthenticate" || id === "mfa_reauthenticate" ? id : undefined;
}
