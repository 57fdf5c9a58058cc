// The score board: the match being played, its goals, and recent results.

import { codeOf, coloursOf } from "./teams.js";

const WORDS = {
  "half-time": "half-time", break: "break", "full-time": "full time", penalties: "penalties",
};
const RESULTS = 8;

export class ScoreBoard {
  constructor(follow) {
    this.follow = follow;
    this.game = null;
    this.goals = new Map(); // offset → goal, of the match being played
    this.results = new Map(); // offset → result
    this.board = document.getElementById("board");
    this.flash = document.getElementById("flash");
  }

  start() {
    this.follow("scores:live", { publication: (data, _, live) => this.update(data, live) });
    this.follow("scores:results", {
      publication: (data, offset) => this.addResults([{ data, offset }]),
      load: (publications) => this.addResults(publications),
      history: RESULTS,
    });
  }

  update(data, live) {
    if (!isMatch(data)) return;
    if (data.game !== this.game || data.event === "kick-off") this.switchTo(data);
    this.score(data);
    const words = WORDS[data.event];
    const clock = document.getElementById("clock");
    clock.textContent = words ?? `${data.minute}′`;
    clock.dataset.running = String(!words);
    const minute = minuteOf(data.minute);
    document.getElementById("played").style.width = `${Math.min(100, (minute / data.length) * 100)}%`;
    if (live && data.event === "goal") this.celebrate(data);
  }

  /** Show another match: its own channel has its events. */
  switchTo(data) {
    if (data.game !== this.game) {
      this.match?.stop();
      this.match = this.follow(`scores:${data.game}`, {
        publication: (event, offset) => this.addEvents([{ data: event, offset }]),
        load: (publications) => this.addEvents(publications),
        history: 60,
      });
    }
    this.game = data.game;
    this.length = data.length;
    this.goals.clear();
    this.showGoals();
    delete this.board.dataset.empty;
    document.getElementById("round").textContent = data.round ?? "";
    document.getElementById("ground").textContent = data.ground ?? "";
    this.board.querySelectorAll(".team").forEach((team, side) => {
      const name = data.teams[side];
      team.querySelector("strong").textContent = name;
      const badge = team.querySelector(".badge");
      badge.textContent = codeOf(name);
      badge.style.backgroundImage = coloursOf(name);
    });
  }

  score(data) {
    data.score.forEach((goals, side) => {
      const digit = document.getElementById(`score-${side}`);
      if (digit.textContent === String(goals)) return;
      digit.textContent = String(goals);
      digit.animate([{ transform: "scale(1.5)" }, { transform: "none" }], { duration: 500, easing: "ease-out" });
    });
    const penalties = document.getElementById("penalties");
    penalties.hidden = !data.penalties;
    if (data.penalties) penalties.textContent = `${data.penalties[0]} : ${data.penalties[1]} on penalties`;
  }

  addEvents(publications) {
    for (const { data, offset } of publications) {
      if (!isMatch(data)) continue;
      // The stream may hold an earlier showing of the same match.
      if (data.event === "kick-off") for (const key of this.goals.keys()) if (key < offset) this.goals.delete(key);
      if (data.event === "goal" && !this.goals.has(offset)) this.goals.set(offset, data);
    }
    this.showGoals();
  }

  showGoals() {
    const goals = [...this.goals].sort(([a], [b]) => a - b).map(([, goal]) => goal);
    this.board.querySelectorAll(".goals").forEach((list, side) => {
      list.replaceChildren(...goals.filter((goal) => goal.side === side).map((goal) => {
        const suffix = goal.penalty ? " (p)" : goal.own_goal ? " (og)" : "";
        return element("li", `${goal.player} ${goal.minute}′${suffix}`);
      }));
    });
    document.getElementById("marks").replaceChildren(...goals.map((goal) => {
      const mark = document.createElement("i");
      mark.dataset.side = goal.side;
      mark.style.left = `${(minuteOf(goal.minute) / this.length) * 100}%`;
      return mark;
    }));
  }

  addResults(publications) {
    for (const { data, offset } of publications) if (isMatch(data)) this.results.set(offset, data);
    const newest = [...this.results].sort(([a], [b]) => b - a).slice(0, RESULTS);
    this.results = new Map(newest);
    document.getElementById("results").replaceChildren(...newest.map(([, result]) => {
      const [home, away] = result.teams;
      const item = document.createElement("li");
      item.title = `${home} – ${away}, ${result.date ?? ""}`;
      item.append(
        element("span", codeOf(home)),
        element("b", `${result.score[0]}:${result.score[1]}`),
        element("span", codeOf(away)),
      );
      if (result.penalties) item.append(element("small", `${result.penalties[0]}:${result.penalties[1]} p`));
      return item;
    }));
  }

  celebrate(goal) {
    this.flash.replaceChildren(
      element("strong", goal.own_goal ? "OWN GOAL" : "GOAL"),
      element("span", `${goal.player} ${goal.minute}′ · ${goal.team}`),
    );
    this.flash.animate(
      [
        { opacity: 0, transform: "scale(.8)" },
        { opacity: 1, transform: "none", offset: 0.12 },
        { opacity: 1, transform: "none", offset: 0.75 },
        { opacity: 0, transform: "scale(1.08)" },
      ],
      { duration: 2200, easing: "ease-out" },
    );
  }
}

function isMatch(data) {
  return typeof data === "object" && data !== null && typeof data.game === "string"
    && Array.isArray(data.teams) && data.teams.length === 2 && Array.isArray(data.score);
}

function minuteOf(minute) {
  return parseInt(minute, 10) || 0;
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}
