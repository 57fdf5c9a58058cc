// Drives the official SDK by lines of JSON: commands on stdin, events on stdout. `json` or `protobuf` is the
// argument: the build of the SDK. In Protobuf payloads are bytes to the application; here, of JSON.
import { createInterface } from "node:readline";
import { EventSource } from "eventsource";
import WebSocket from "ws";

const binary = process.argv[2] === "protobuf";
const { Centrifuge } = await import(binary ? "centrifuge/build/protobuf" : "centrifuge");
const write = (data) => (binary ? new TextEncoder().encode(JSON.stringify(data)) : data);
const read = (data) => (binary && data?.length ? JSON.parse(new TextDecoder().decode(data)) : data);
const readInfo = (info) => ({ ...info, connInfo: read(info.connInfo), chanInfo: read(info.chanInfo) });

const tell = (event) => process.stdout.write(JSON.stringify(event) + "\n");

let client;
const subscriptions = new Map();

// Tokens that the SDK waits for: the test gives them, as an application's back end would.
const asked = new Map();
const askToken = (context) =>
  new Promise((resolve) => {
    const request = asked.size + 1;
    asked.set(request, resolve);
    tell({ event: "getToken", request, channel: context?.channel });
  });
const withTokens = (options) => (options?.getToken ? { ...options, getToken: askToken } : options ?? {});

const commands = {
  connect({ url, options }) {
    client = new Centrifuge(url, {
      websocket: WebSocket,
      eventsource: EventSource,
      minReconnectDelay: 20,
      maxReconnectDelay: 200,
      ...withTokens(options),
    });
    client.on("connected", (context) =>
      tell({
        event: "connected",
        client: context.client,
        data: read(context.data),
        transport: context.transport,
      }),
    );
    // Of server-side subscriptions.
    client.on("subscribed", (context) =>
      tell({
        event: "server subscribed",
        channel: context.channel,
        data: read(context.data),
        wasRecovering: context.wasRecovering,
        recovered: context.recovered,
      }),
    );
    client.on("unsubscribed", (context) => tell({ event: "server unsubscribed", channel: context.channel }));
    client.on("publication", (context) =>
      tell({ event: "publication", channel: context.channel, offset: context.offset, data: read(context.data) }),
    );
    client.on("connecting", (context) => tell({ event: "connecting", code: context.code }));
    client.on("disconnected", (context) => tell({ event: "disconnected", code: context.code }));
    client.on("error", (context) => tell({ event: "error", error: context.error }));
    client.connect();
  },
  subscribe({ channel, options }) {
    const subscription = client.newSubscription(channel, withTokens(options));
    subscriptions.set(channel, subscription);
    subscription.on("subscribed", (context) =>
      tell({
        event: "subscribed",
        channel,
        recoverable: context.recoverable,
        positioned: context.positioned,
        wasRecovering: context.wasRecovering,
        recovered: context.recovered,
        offset: context.streamPosition?.offset,
        epoch: context.streamPosition?.epoch,
      }),
    );
    subscription.on("subscribing", (context) => tell({ event: "subscribing", channel, code: context.code }));
    subscription.on("unsubscribed", (context) => tell({ event: "unsubscribed", channel, code: context.code }));
    subscription.on("publication", (context) =>
      tell({ event: "publication", channel, offset: context.offset, data: read(context.data), tags: context.tags }),
    );
    for (const kind of ["join", "leave"])
      subscription.on(kind, (context) => tell({ event: kind, channel, info: readInfo(context.info) }));
    subscription.on("error", (context) => tell({ event: "subscription error", channel, error: context.error }));
    subscription.subscribe();
  },
  token({ request, token }) {
    asked.get(request)(token);
  },
  unsubscribe({ channel }) {
    subscriptions.get(channel).unsubscribe();
  },
  async publish({ channel, data }) {
    await client.publish(channel, write(data));
    return {};
  },
  async history({ channel, options }) {
    const { publications, offset, epoch } = await client.history(channel, options);
    return { publications: publications.map((item) => ({ ...item, data: read(item.data) })), offset, epoch };
  },
  async presence({ channel }) {
    const { clients } = await client.presence(channel);
    return { clients: Object.fromEntries(Object.entries(clients).map(([id, info]) => [id, readInfo(info)])) };
  },
  async presenceStats({ channel }) {
    return client.presenceStats(channel);
  },
  async rpc({ method, data }) {
    return { data: read((await client.rpc(method, write(data))).data) };
  },
  disconnect() {
    client.disconnect();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, command, ...parameters } = JSON.parse(line);
  Promise.resolve()
    .then(() => commands[command](parameters))
    .then(
      (result) => id && tell({ event: "result", id, result: result ?? {} }),
      (error) => tell({ event: "failed", id, code: error.code, message: error.message ?? String(error) }),
    );
}
client?.disconnect();
