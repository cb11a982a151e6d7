import { Tranche } from "./tranche.js";

const $ = (id) => document.getElementById(id);
const tranche = new Tranche(await (await fetch("config.json")).json());
window.tranche = tranche; // For the tests.

/** What was read is kept over a reload, and so is the place in the stream. */
const seen = JSON.parse(sessionStorage.getItem("seen") ?? "[]");

function show() {
  $("state").value = tranche.signedIn ? "signed in" : "signed out";
  $("events").replaceChildren(
    ...seen.map(({ sequence, topic }) => {
      const line = document.createElement("li");
      line.textContent = `${sequence} ${topic}`;
      return line;
    }),
  );
}

async function listen() {
  const place = sessionStorage.getItem("place");
  const opened = (id) => {
    sessionStorage.setItem("place", id);
    $("live").value = "yes";
  };
  for await (const event of tranche.events(place, { opened })) {
    sessionStorage.setItem("place", String(event.sequence));
    seen.push({ sequence: event.sequence, topic: event.topic });
    sessionStorage.setItem("seen", JSON.stringify(seen));
    show();
  }
  $("live").value = "no";
  show();
}

/** A form does one thing; the next step of a sign-in is no failure, whatever else is refused is said. */
function on(id, act) {
  $(id).addEventListener("submit", async (submit) => {
    submit.preventDefault();
    const before = tranche.signedIn;
    $("problem").textContent = "";
    try {
      await act(Object.fromEntries(new FormData(submit.target)));
    } catch (problem) {
      const next = problem.code === "authentication_incomplete" ? `next: ${problem.flows[0].id}` : null;
      $("problem").textContent = next ?? problem.code ?? String(problem);
    }
    show();
    if (tranche.signedIn && !before) listen();
  });
}

on("sign-up", (values) => tranche.send("POST", "auth/sign-up", values));
on("verify", (values) => tranche.send("POST", "auth/verify", values));
on("sign-in", (values) => tranche.send("POST", "auth/sign-in", values));
on("factor", () => tranche.passkeyShow("auth/sign-in/factor/passkey"));
on("add-passkey", () => tranche.passkeyAdd("This browser"));
on("sign-in-passkey", () => tranche.passkeyShow("auth/sign-in/passkey"));
on("step-up", () => tranche.passkeyShow("auth/step-up/passkey"));
on("refresh", () => tranche.refresh());
on("sign-out", () => tranche.signOut());
on("sign-out-all", () => tranche.signOut({ everywhere: true }));

// After a reload: the cookie is all that is left.
if (tranche.csrfToken()) await tranche.refresh().catch(() => {});
show();
if (tranche.signedIn) listen();
document.documentElement.dataset.ready = "";
