// One message: what is known of it, and how it looks.

import { button, clock, colourOf, element, exactClock, nameOf, timeOf } from "./dom.js";

const MAX_EDIT = 500;

/** Whether a payload is a message rather than an event about one; any JSON may be in the stream. */
export function isMessage(data) {
  return typeof data === "object" && data !== null && !Array.isArray(data) && (data.type ?? "message") === "message";
}

export class Message {
  /** `said` is as chat.history has it. `actions` has react(message, key) and openMenu(message, opener). */
  constructor(said, actions) {
    this.id = said.id;
    this.offset = said.offset;
    this.user = said.user;
    this.name = nameOf(said.info, said.data);
    this.actions = actions;
    this.reactions = {};
    this.mine = new Set(); // keys of reactions that are known to be the visitor's
    this.item = element("li", "", "message");
    this.item.dataset.id = said.id;
    this.item.dataset.offset = said.offset;
    const sent = timeOf(said.offset);
    const time = element("time", clock(sent));
    time.title = exactClock(sent);
    this.body = element("span", "", "text");
    this.marks = element("small");
    this.chips = element("div", "", "chips");
    this.more = button("⋯", () => actions.openMenu(this, this.more), {
      label: `React to this message of ${this.name}, and more`, className: "more",
    });
    this.more.setAttribute("aria-haspopup", "true");
    this.item.append(time, element("b", this.name, colourOf(this.user || this.name)), this.body, this.marks, this.more);
    this.update(said);
  }

  /** Any of data, edited, reactions, pinned. */
  update({ data, edited, reactions, pinned, took }) {
    if (data) {
      this.text = typeof data.text === "string" ? data.text : null;
      this.body.textContent = this.text ?? JSON.stringify(data.body ?? data);
    }
    if (edited) this.edited = edited;
    if (took !== undefined) this.took = took;
    if (pinned !== undefined) this.pinned = pinned;
    if (reactions) this.showReactions(reactions);
    this.item.classList.toggle("pinned", Boolean(this.pinned));
    const marks = [];
    if (this.edited) marks.push("edited");
    if (this.took !== undefined) marks.push(`${this.took.toFixed(this.took < 10 ? 1 : 0)} ms`);
    this.marks.textContent = marks.join(" · ");
    this.marks.title = this.edited ? `edited at ${exactClock(this.edited)}` : "";
  }

  showReactions(counts) {
    this.reactions = counts;
    const focused = this.chips.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.chips.replaceChildren(...Object.entries(counts).map(([key, count]) => {
      const chip = button("", () => this.actions.react(this, key), { label: `${key}: ${count}`, className: "chip" });
      chip.append(element("span", key), element("i", String(count)));
      chip.dataset.key = key;
      chip.setAttribute("aria-pressed", String(this.mine.has(key)));
      return chip;
    }));
    if (this.chips.childElementCount) this.item.append(this.chips);
    else this.chips.remove();
    if (focused !== null) [...this.chips.children].find((chip) => chip.dataset.key === focused)?.focus();
  }

  setMine(key, mine) {
    this.mine[mine ? "add" : "delete"](key);
    this.showReactions(this.reactions);
  }

  /** Show a field in place of the text; `save(text)` may raise, and `done` is called at the end. */
  startEdit(save, done) {
    this.stopEdit();
    const form = this.editing = element("form", "", "edit");
    const input = element("input");
    input.value = this.text;
    input.maxLength = MAX_EDIT;
    input.setAttribute("aria-label", "Edit your message");
    const submit = button("save", () => {});
    submit.type = "submit";
    this.editDone = done;
    form.append(input, submit, button("cancel", () => this.stopEdit()));
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.stopEdit();
    });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const text = input.value.trim();
      if (text && text !== this.text && !await save(text)) return;
      if (this.editing === form) this.stopEdit();
    });
    this.item.classList.add("editing");
    this.marks.after(form);
    input.focus();
  }

  stopEdit() {
    if (!this.editing) return;
    const hadFocus = this.editing.contains(document.activeElement);
    this.editing.remove();
    this.editing = null;
    this.item.classList.remove("editing");
    if (hadFocus) this.more.focus();
    this.editDone();
  }

  remove() {
    this.item.remove();
  }
}
