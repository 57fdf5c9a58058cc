// The room: what is said in it and what becomes of that, as the server tells, and what visitors do there.

import { Danmaku } from "../danmaku.js";
import { Acts } from "./acts.js";
import { Composer } from "./composer.js";
import { byId, nameOf, timeOf } from "./dom.js";
import { Hint } from "./hint.js";
import { MessageList } from "./list.js";
import { isMessage, Message } from "./message.js";
import { Pins } from "./pins.js";
import { countPeople } from "./presence.js";

const PAGE = 50;
const SPARE_MS = 1000; // after a ban: the clocks may differ
const MAX_TIMER_MS = 2 ** 31 - 1; // of what setTimeout can do

export class ChatRoom {
  constructor(centrifuge, identity, channel) {
    Object.assign(this, { centrifuge, identity, channel });
    this.moderates = false;
    this.underWay = new Map(); // nonce → when it was sent
    this.meanwhile = null; // what came while a page was asked for
    this.hint = new Hint();
    this.list = new MessageList({
      held: () => this.acts.underWay,
      trimmed: (first) => this.showOlder(first),
    });
    this.acts = new Acts(this);
    this.pins = new Pins((id) => this.act("unpin", { id }));
    this.composer = new Composer({
      identity,
      hint: this.hint,
      call: (method, params) => this.call(method, params),
      refuse: (error) => this.refuse(error),
      sent: (nonce) => this.underWay.set(nonce, performance.now()),
    });
    this.danmaku = new Danmaku(byId("bullets"));
    const fly = byId("fly");
    fly.addEventListener("click", () => {
      this.danmaku.enabled = !this.danmaku.enabled;
      fly.setAttribute("aria-pressed", String(this.danmaku.enabled));
      if (!this.danmaku.enabled) this.danmaku.clear();
    });
    byId("older").addEventListener("click", () => this.loadOlder());
  }

  attach(subscription) {
    this.subscription = subscription;
    this.people = countPeople(this.centrifuge, subscription);
    subscription.on("subscribed", ({ wasRecovering, recovered }) => {
      if (!wasRecovering || !recovered) this.load(wasRecovering);
      this.loadRoom();
    });
    subscription.on("unsubscribed", ({ code }) => {
      if (code) this.loadRoom(); // it tells of a ban
    });
  }

  // Who one is

  /** The visitor goes, as who they were. */
  leave() {
    this.subscription.unsubscribe(); // at once: a lost connection would count for a while
  }

  /** The visitor is somebody else now. */
  enter() {
    this.composer.show();
    byId("chat").classList.toggle("watching", !this.identity.user);
    if (this.subscription.state === "unsubscribed") this.subscription.subscribe();
  }

  // What is asked

  async call(method, params = {}) {
    const { data } = await this.centrifuge.rpc(`chat.${method}`, { channel: this.channel, ...params });
    return data;
  }

  /** The same, with a refusal shown; undefined then. */
  async act(method, params, told) {
    try {
      const result = await this.call(method, params);
      if (told) this.hint.tell(told(result));
      return result;
    } catch (error) {
      this.refuse(error);
      return undefined;
    }
  }

  /** Show why something was not done. */
  refuse(error) {
    this.hint.refuse(error);
    // Until when, the SDK keeps to itself; the room tells.
    if (/^(muted|banned)/.test(error.message)) this.loadRoom();
  }

  /** The newest messages, in place of those shown. */
  async load(missed) {
    const page = await this.page();
    if (!page) return;
    this.list.keepingEnd(() => {
      for (const id of this.list.messages.keys()) this.acts.stop(id);
      this.list.clear();
      this.fill(page);
      if (missed) this.list.notice("some messages were missed, here is what there is now");
    }, { jump: true });
  }

  async loadOlder() {
    const page = await this.page(this.before);
    if (page) this.list.keepingPlace(() => this.fill(page));
  }

  async page(before) {
    const meanwhile = this.meanwhile = [];
    try {
      const page = await this.call("history", before ? { before, limit: PAGE } : { limit: PAGE });
      return this.meanwhile === meanwhile ? page : null; // else a later question is about to be answered
    } catch (error) {
      console.warn(this.channel, "history:", error.message);
      return null;
    }
  }

  fill({ messages, next }) {
    for (const said of messages) if (!this.list.get(said.id)) this.add(said);
    this.showOlder(next);
    // The page may be older than what came meanwhile. Doing that twice comes to the same.
    for (const publication of this.meanwhile) this.apply(publication);
    this.meanwhile = null;
  }

  showOlder(before) {
    this.before = before;
    byId("older").hidden = !before;
  }

  async loadRoom() {
    try {
      const room = await this.call("room");
      this.moderates = room.role !== "member";
      this.showTitle(room.title);
      this.pins.show(room.pins, this.moderates);
      if (room.banned_until) this.keepOut(endOf(room.banned_until));
      else if (room.muted_until) this.hint.bar("muted", endOf(room.muted_until));
    } catch (error) {
      console.warn(this.channel, "room:", error.message);
    }
  }

  keepOut(until) {
    this.hint.bar("banned", until);
    clearTimeout(this.comeBack);
    const wait = until - Date.now() + SPARE_MS;
    if (wait < MAX_TIMER_MS) this.comeBack = setTimeout(() => this.subscription.subscribe(), wait);
  }

  showTitle(title) {
    byId("title").textContent = title || this.channel.slice(this.channel.indexOf(":") + 1);
  }

  // What comes

  push(publication, live) {
    const { data, offset, info } = publication;
    if (!offset) {
      if (data?.type === "presence") this.people.summary(data);
      if (data?.type === "typing" && data.user !== this.identity.user) this.hint.types(data.user, nameOf(info), data);
      return;
    }
    this.meanwhile?.push(publication);
    const fresh = isMessage(data) && !this.list.get(publication.tags.id);
    const started = this.underWay.get(data?.nonce);
    const own = fresh && started !== undefined;
    this.list.keepingEnd(() => this.apply(publication), { jump: own });
    if (!fresh) return;
    const message = this.list.get(publication.tags.id);
    if (own) {
      this.underWay.delete(data.nonce);
      message.update({ took: performance.now() - started });
    }
    this.hint.stopped(message.user);
    if (live) this.danmaku.fly(own ? `${message.name}: ${message.text}` : message.body.textContent, { own });
  }

  /** Bring the list up to date; of what is no event the room knows, nothing happens. */
  apply({ data, tags, offset, info }) {
    if (isMessage(data)) {
      const user = info?.user ?? (info ? "" : data.user);
      if (!this.list.get(tags.id)) this.add({ id: tags.id, offset, data, info, user: typeof user === "string" ? user : "" });
      return;
    }
    const message = this.list.get(data?.id);
    // Producers may write anything here, too: what an event lacks does no harm.
    if (data?.type === "edit") message?.update({ data, edited: timeOf(offset) });
    else if (data?.type === "reaction") this.reacted(message, data);
    else if (data?.type === "delete") this.removed([data.id]);
    else if (data?.type === "purge") this.removed(Array.isArray(data.ids) ? data.ids : []);
    else if (data?.type === "pin" || data?.type === "unpin") message?.update({ pinned: data.type === "pin" });
    else if (data?.type === "room" && "title" in data) this.showTitle(data.title);
    if (["pin", "unpin"].includes(data?.type) || this.pins.has(data?.id)) this.loadRoom();
  }

  add(said) {
    const message = new Message(said, this.acts);
    message.item.classList.toggle("own", Boolean(message.user) && message.user === this.identity.user);
    message.update(said);
    this.list.add(message);
  }

  reacted(message, { user, key, action, counts }) {
    if (!message) return;
    message.update({ reactions: counts ?? {} });
    if (user === this.identity.user) message.setMine(key, action === "add");
  }

  removed(ids) {
    for (const id of ids) {
      this.acts.stop(id);
      this.list.remove(id);
    }
    if (ids.some((id) => this.pins.has(id))) this.loadRoom();
  }
}

/** When a mute or ban ends; the largest number stands for never. */
function endOf(ms) {
  return ms === Number.MAX_SAFE_INTEGER ? Infinity : ms;
}
