// Drives the official SDK by lines of JSON: commands on stdin, events on stdout.
import { createInterface } from "node:readline";
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

const tell = (event) => process.stdout.write(JSON.stringify(event) + "\n");

let client;
const subscriptions = new Map();

const commands = {
  connect({ url }) {
    client = new Centrifuge(url, {
      websocket: WebSocket,
      minReconnectDelay: 20,
      maxReconnectDelay: 200,
    });
    client.on("connected", (context) => tell({ event: "connected", client: context.client }));
    client.on("connecting", (context) => tell({ event: "connecting", code: context.code }));
    client.on("disconnected", (context) => tell({ event: "disconnected", code: context.code }));
    client.on("error", (context) => tell({ event: "error", error: context.error }));
    client.connect();
  },
  subscribe({ channel, options }) {
    const subscription = client.newSubscription(channel, options ?? {});
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
      tell({ event: "publication", channel, offset: context.offset, data: context.data, tags: context.tags }),
    );
    subscription.on("error", (context) => tell({ event: "subscription error", channel, error: context.error }));
    subscription.subscribe();
  },
  unsubscribe({ channel }) {
    subscriptions.get(channel).unsubscribe();
  },
  async publish({ channel, data }) {
    await client.publish(channel, data);
    return {};
  },
  async history({ channel, options }) {
    const { publications, offset, epoch } = await client.history(channel, options);
    return { publications, offset, epoch };
  },
  async presence({ channel }) {
    const { clients } = await client.presence(channel);
    return { clients };
  },
  async presenceStats({ channel }) {
    return client.presenceStats(channel);
  },
  async rpc({ method, data }) {
    return client.rpc(method, data);
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
