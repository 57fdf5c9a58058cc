// What the visitor does with a message of others, or of their own.

import { clock } from "./dom.js";
import { Menu } from "./menu.js";

const MINUTE = 60; // seconds

export class Acts {
  constructor(room) {
    this.room = room;
    this.menu = new Menu(() => room.list.follow());
    this.editing = 0;
  }

  /** Whether something is open that must not be scrolled away. */
  get underWay() {
    return this.menu.isOpen || this.editing > 0;
  }

  /** A message is no longer there. */
  stop(id) {
    if (this.menu.message?.id === id) this.menu.close();
    this.room.list.get(id)?.stopEdit();
  }

  openMenu(message, opener) {
    this.menu.open(message, opener, (key) => this.react(message, key), [...this.of(message)]);
  }

  /** Add a reaction, or take it back. */
  async react(message, key) {
    if (!this.room.identity.user) return;
    const { id } = message, before = message.reactions[key];
    let remove = message.mine.has(key);
    let result = await this.act("react", { id, key, remove });
    // History does not tell whose reactions they are: one that changes nothing was the visitor's before.
    if (result && !remove && before && result.counts[key] === before) {
      remove = true;
      result = await this.act("react", { id, key, remove });
    }
    // Not by the event alone: another's reaction may take its place before it is read. Counts are the events'.
    if (result) message.setMine(key, !remove);
  }

  edit(message) {
    this.editing += 1;
    message.startEdit(
      (text) => this.act("edit", { id: message.id, text }),
      () => {
        this.editing -= 1;
        this.room.list.follow();
      },
    );
  }

  act(method, params, told) {
    return this.room.act(method, params, told);
  }

  /** What may be done, for the menu. */
  * of(message) {
    const { id, user, name } = message;
    const { identity, moderates } = this.room;
    const own = user === identity.user;
    if (own && message.text !== null) yield ["Edit", () => this.edit(message)];
    if (moderates) {
      yield message.pinned ? ["Unpin", () => this.act("unpin", { id })] : ["Pin", () => this.act("pin", { id })];
    }
    if (own || moderates) yield ["Delete", () => this.act("delete", { id }), "danger"];
    if (own || !user || !moderates) return;
    const until = (how) => (result) => `${name} is ${how} until ${clock(result.until)}`;
    for (const minutes of [1, 10]) {
      const mute = () => this.act("mute", { user, seconds: minutes * MINUTE }, until("muted"));
      yield [`Mute for ${minutes} min`, mute, "danger"];
    }
    yield ["Unmute", () => this.act("unmute", { user }, () => `${name} may write again`)];
    yield ["Ban for 10 min", () => this.act("ban", { user, seconds: 10 * MINUTE }, until("banned")), "danger"];
    const purged = ({ deleted }) => `${deleted} ${deleted === 1 ? "message" : "messages"} of ${name} deleted`;
    yield [`Delete all of ${name}`, () => this.act("purge", { user }, purged), "sure"];
  }
}
