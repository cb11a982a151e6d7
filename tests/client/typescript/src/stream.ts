/** The live stream: events as `GET /events` gives them, once each and in order, resumed after a sequence. */

import { EventSourceParserStream } from "eventsource-parser/stream";

import { type Api, done } from "./api.js";
import type { Event } from "./schema.js";

/** Ends when the server ends the stream; whoever stops reading closes it. */
export async function* listen(api: Api, baseUrl: string, after: number): AsyncGenerator<Event> {
  const closing = new AbortController();
  try {
    const body = done(
      await api.GET("/api/v1/stream", {
        baseUrl,
        params: { header: { "Last-Event-ID": after } },
        parseAs: "stream",
        signal: closing.signal,
      }),
    );
    if (body === null) throw new Error("the stream has no body");
    for await (const message of body
      .pipeThrough(new TextDecoderStream())
      .pipeThrough(new EventSourceParserStream())) {
      if (message.event === "stream.closed") return;
      const event: unknown = JSON.parse(message.data);
      if (!isEvent(event)) throw new Error(`not an event: ${message.data}`);
      if (message.id !== String(event.sequence)) throw new Error(`event ${event.sequence} came as ${message.id}`);
      yield event;
    }
  } finally {
    closing.abort();
  }
}

/** What comes over a stream is text until somebody has looked at it. */
function isEvent(value: unknown): value is Event {
  return (
    isRecord(value) &&
    typeof value["id"] === "string" &&
    typeof value["sequence"] === "number" &&
    typeof value["topic"] === "string" &&
    typeof value["occurred_at"] === "string" &&
    isRecord(value["payload"]) &&
    (value["object"] === null || (isRecord(value["object"]) && typeof value["object"]["id"] === "string"))
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
