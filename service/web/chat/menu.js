// What can be done with a message: a small menu of buttons, in the browser's top layer.

import { button, byId, element } from "./dom.js";

const EMOJI = [["👍", "thumbs up"], ["❤️", "heart"], ["😂", "laughing"], ["🔥", "fire"], ["⚽", "goal"], ["😢", "crying"]];

export class Menu {
  constructor(closed) {
    this.root = byId("menu");
    this.message = null;
    this.root.addEventListener("toggle", ({ newState }) => {
      if (newState === "open") return;
      this.opener?.setAttribute("aria-expanded", "false");
      this.message?.item.classList.remove("chosen");
      this.message = this.opener = null;
      closed();
    });
    this.root.addEventListener("keydown", (event) => this.move(event));
  }

  get isOpen() {
    return this.message !== null;
  }

  /** `react(key)`; `actions` is a list of [text, function, kind]: "danger", or "sure" to be clicked twice. */
  open(message, opener, react, actions) {
    this.close();
    const reactions = element("div", "", "emoji");
    reactions.append(...EMOJI.map(([key, label]) => button(key, this.closing(() => react(key)), { label })));
    const items = actions.map(([text, act, kind]) => this.action(text, act, kind));
    this.root.replaceChildren(reactions, ...items);
    this.root.setAttribute("aria-label", `Message of ${message.name}`);
    this.message = message;
    this.opener = opener;
    opener.setAttribute("aria-expanded", "true");
    message.item.classList.add("chosen");
    this.root.showPopover();
    this.place(opener.getBoundingClientRect());
    reactions.firstElementChild.focus();
  }

  close() {
    if (this.root.matches(":popover-open")) this.root.hidePopover();
  }

  closing(act) {
    return () => {
      this.close();
      act();
    };
  }

  action(text, act, kind) {
    let sure = kind !== "sure";
    const item = button(text, () => {
      if (sure) this.closing(act)();
      else item.textContent = `Really? ${text}`;
      sure = true;
    }, { className: kind ? "danger" : "" });
    return item;
  }

  place({ right, top, bottom }) {
    const { offsetWidth: width, offsetHeight: height } = this.root;
    const below = bottom + 4 + height < innerHeight;
    this.root.style.left = `${Math.max(8, Math.min(right - width, innerWidth - width - 8))}px`;
    this.root.style.top = `${Math.max(8, below ? bottom + 4 : top - height - 4)}px`;
  }

  move(event) {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const items = [...this.root.querySelectorAll("button")];
    items.at((items.indexOf(document.activeElement) + step) % items.length).focus();
    event.preventDefault();
  }
}
