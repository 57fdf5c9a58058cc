// Who the visitor is: a name of their choice, and the token that the demo gives for it.

const RETRY_MS = 2000;

// Close codes after which a new token helps: the SDK found it expired, the server no good (restarted).
const RENEW = new Set([1, 3500]);

export class Identity {
  /** `leaving` and `changed` are called before and after; `failed` with an Error where a stored name is refused. */
  constructor(centrifuge, { leaving, changed, failed }) {
    Object.assign(this, { centrifuge, leaving, changed, failed });
    this.user = "";
    this.name = localStorage.getItem("name") ?? "";
    this.moderator = localStorage.getItem("moderator") === "true";
    // The SDK's getToken must give a token; visitors without a name have none. So tokens are set.
    centrifuge.on("disconnected", ({ code }) => {
      if (this.user && RENEW.has(code)) this.start();
    });
  }

  /** Connect, under the name of the last visit if there was one. */
  async start() {
    try {
      if (this.name) await this.fetch(this.name, this.moderator);
    } catch (error) {
      if (error instanceof TypeError) { // nobody answered
        setTimeout(() => this.start(), RETRY_MS);
        return;
      }
      this.user = "";
      this.centrifuge.setToken("");
      this.failed(error);
    }
    this.centrifuge.connect();
    this.changed();
  }

  /** Go on under a name; raises an Error that says why not. */
  async signIn(name, moderator) {
    await this.fetch(name, moderator);
    this.leaving();
    this.centrifuge.disconnect(); // the connection is the former visitor's
    this.centrifuge.connect();
    this.changed();
  }

  async fetch(name, moderator) {
    const response = await fetch("/demo/token", { method: "POST", body: JSON.stringify({ name, moderator }) });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.error ?? `the node answered ${response.status}`);
    Object.assign(this, { name, moderator, user: answer.user });
    localStorage.setItem("name", name);
    localStorage.setItem("moderator", String(moderator));
    this.centrifuge.setToken(answer.token);
  }
}
