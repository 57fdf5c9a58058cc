// How many people are in the room. Joins, leaves and summaries change the number at once; what is missed
// between them (a lost push, a summary's interval) is put right by asking now and then.

import { byId } from "./dom.js";

const ASK_AFTER_MS = 5000;

export function countPeople(centrifuge, subscription) {
  let people = 0, client = "", timer = null;
  const show = (number) => {
    people = Math.max(number, 1); // the visitor
    byId("present").textContent = `${people} ${people === 1 ? "person" : "people"} here`;
  };
  const ask = () => {
    clearTimeout(timer);
    timer = null;
    if (subscription.state !== "subscribed") return;
    subscription.presenceStats().then(({ numUsers }) => show(numUsers), () => {}); // presence is off here
  };
  const change = (by) => ({ info }) => {
    if (info.client === client || !people) return; // the answer to the question counts the visitor
    show(people + by);
    timer ??= setTimeout(ask, ASK_AFTER_MS);
  };
  centrifuge.on("connected", (context) => { client = context.client; });
  subscription.on("subscribed", ask);
  subscription.on("unsubscribed", () => { // a number that nothing changes any more is none
    people = 0;
    byId("present").textContent = "";
  });
  subscription.on("join", change(+1));
  subscription.on("leave", change(-1));
  return { summary: ({ users }) => Number.isInteger(users) && show(users) };
}
