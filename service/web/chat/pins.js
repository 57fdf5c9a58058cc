// The bar of what is pinned: the newest such message.

import { byId, nameOf } from "./dom.js";

export class Pins {
  constructor(unpin) {
    this.pins = [];
    byId("unpin").addEventListener("click", () => unpin(this.pins.at(-1).id));
  }

  has(id) {
    return this.pins.some((pin) => pin.id === id);
  }

  show(pins, moderates) {
    this.pins = pins;
    const newest = pins.at(-1);
    byId("pinned").hidden = !newest;
    byId("unpin").hidden = !moderates;
    if (!newest) return;
    const { data, info } = newest;
    byId("pinned-name").textContent = nameOf(info, data);
    byId("pinned-text").textContent = typeof data.text === "string" ? data.text : JSON.stringify(data.body ?? data);
  }
}
