// Bullet comments: messages that fly over the score board, each in a lane of its own.

const PIXELS_PER_SECOND = 150;
const LANE_HEIGHT = 30;
const GAP = 28;
const MOST = 40;
const LONGEST = 200; // characters

export class Danmaku {
  constructor(root) {
    this.root = root;
    this.free = []; // for each lane, when its right end is free again
    this.enabled = true;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
  }

  fly(text, { own = false } = {}) {
    if (!this.enabled || document.hidden || this.root.childElementCount >= MOST) return;
    const width = this.root.clientWidth;
    const lane = this.lane(performance.now());
    if (lane < 0) return; // all lanes are full: the list below has the message
    const bullet = document.createElement("span");
    bullet.className = own ? "bullet own" : "bullet";
    bullet.textContent = text.length > LONGEST ? `${text.slice(0, LONGEST)} …` : text;
    bullet.style.top = `${lane * LANE_HEIGHT + 6}px`;
    this.root.append(bullet);
    const length = bullet.offsetWidth;
    this.free[lane] = performance.now() + ((length + GAP) / PIXELS_PER_SECOND) * 1000;
    const duration = ((width + length) / PIXELS_PER_SECOND) * 1000;
    const from = `translateX(${width}px)`, to = `translateX(${-length}px)`;
    const animation = this.still.matches
      ? bullet.animate([{ opacity: 1, transform: "translateX(8px)" }, { opacity: 0, transform: "translateX(8px)" }], 4000)
      : bullet.animate([{ transform: from }, { transform: to }], { duration, easing: "linear" });
    animation.onfinish = () => bullet.remove();
  }

  lane(now) {
    const lanes = Math.max(1, Math.floor((this.root.clientHeight - 8) / LANE_HEIGHT));
    const open = [];
    for (let lane = 0; lane < lanes; lane++) if ((this.free[lane] ?? 0) <= now) open.push(lane);
    if (!open.length) return -1;
    // The upper lanes first, but not always the same one.
    return open[Math.floor(Math.random() * Math.min(open.length, 4))];
  }

  clear() {
    this.root.replaceChildren();
    this.free = [];
  }
}
