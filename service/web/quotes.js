// One card for each symbol: price, change, a small chart, bid and ask.

import { token } from "./theme.js";

export class QuoteCard {
  static POINTS = 160;

  constructor(symbol, parent) {
    this.symbol = symbol;
    this.channel = `quotes:${symbol}`;
    this.points = []; // [offset, price], oldest first
    this.root = document.getElementById("quote").content.firstElementChild.cloneNode(true);
    this.root.dataset.symbol = symbol;
    this.at("h3").textContent = symbol;
    this.canvas = this.at("canvas");
    parent.append(this.root);
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
  }

  at(selector) {
    return this.root.querySelector(selector);
  }

  /** Replace the chart by history; what came live meanwhile is newer and stays. */
  load(publications) {
    const loaded = publications.map(({ offset, data }) => [offset, priceOf(data)]);
    const last = loaded.length ? loaded.at(-1)[0] : 0;
    this.points = [...loaded, ...this.points.filter(([offset]) => offset > last)]
      .filter(([, price]) => Number.isFinite(price))
      .slice(-QuoteCard.POINTS);
    if (publications.length && last >= (this.shown ?? 0)) this.show(publications.at(-1).data, last, false);
    this.redraw();
  }

  push(data, offset, live) {
    const price = priceOf(data);
    if (!Number.isFinite(price) || (this.shown && offset <= this.shown)) return;
    this.points.push([offset, price]);
    if (this.points.length > QuoteCard.POINTS) this.points.shift();
    this.show(data, offset, live);
    this.redraw();
  }

  show(data, offset, live) {
    const price = priceOf(data);
    const before = this.price ?? price;
    this.price = price;
    this.shown = offset;
    const digits = price >= 10_000 ? 1 : 2;
    const first = this.points[0]?.[1] ?? price;
    const change = ((price - first) / first) * 100;
    this.at(".price").textContent = number(price, digits);
    this.at(".change").textContent = `${change >= 0 ? "+" : "−"}${Math.abs(change).toFixed(2)} %`;
    this.root.dataset.trend = change >= 0 ? "up" : "down";
    this.at(".bid b").textContent = number(data.bid, digits);
    this.at(".ask b").textContent = number(data.ask, digits);
    this.at(".bid small").textContent = size(data.bid_size);
    this.at(".ask small").textContent = size(data.ask_size);
    const bid = Number(data.bid_size), ask = Number(data.ask_size);
    if (bid + ask > 0) this.at(".depth i").style.width = `${((bid / (bid + ask)) * 100).toFixed(0)}%`;
    if (live && price !== before) {
      const flash = [{ color: token(price > before ? "--up" : "--down") }, { color: token("--ink") }];
      this.at(".price").animate(flash, { duration: 700, easing: "ease-out" });
    }
  }

  redraw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.draw();
    });
  }

  draw() {
    const { canvas, points } = this;
    const scale = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const draw = canvas.getContext("2d");
    draw.setTransform(scale, 0, 0, scale, 0, 0);
    draw.clearRect(0, 0, width, height);
    if (points.length < 2) return;
    const prices = points.map(([, price]) => price);
    const low = Math.min(...prices), high = Math.max(...prices);
    const span = high - low || high * 0.001;
    const x = (index) => (index / (points.length - 1)) * (width - 5);
    const y = (price) => 4 + (1 - (price - low) / span) * (height - 8);
    const colour = token(this.root.dataset.trend === "down" ? "--down" : "--up");
    draw.beginPath();
    prices.forEach((price, index) => draw.lineTo(x(index), y(price)));
    draw.strokeStyle = colour;
    draw.lineWidth = 1.5;
    draw.lineJoin = "round";
    draw.stroke();
    draw.lineTo(width - 5, height);
    draw.lineTo(0, height);
    const fill = draw.createLinearGradient(0, 0, 0, height);
    draw.globalAlpha = 0.28;
    fill.addColorStop(0, colour);
    fill.addColorStop(1, "transparent");
    draw.fillStyle = fill;
    draw.fill();
    draw.globalAlpha = 0.5;
    draw.setLineDash([2, 4]);
    draw.beginPath();
    draw.moveTo(0, y(prices[0]));
    draw.lineTo(width, y(prices[0]));
    draw.strokeStyle = token("--faint");
    draw.lineWidth = 1;
    draw.stroke();
    draw.setLineDash([]);
    draw.globalAlpha = 1;
    draw.beginPath();
    draw.arc(width - 5, y(prices.at(-1)), 2.5, 0, 7);
    draw.fillStyle = colour;
    draw.fill();
  }
}

function priceOf(data) {
  if (typeof data !== "object" || data === null) return NaN;
  const price = Number(data.price);
  return Number.isFinite(price) && price > 0 ? price : (Number(data.bid) + Number(data.ask)) / 2;
}

function number(value, digits) {
  const parsed = Number(value);
  return Number.isFinite(parsed) && value !== undefined
    ? parsed.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })
    : "–";
}

function size(value) {
  const parsed = Number(value);
  if (!Number.isFinite(parsed)) return "";
  return parsed.toLocaleString("en", { maximumSignificantDigits: 3, notation: "compact" });
}
