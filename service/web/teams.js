// Three letters and a few stripes for each team: [code, direction, colours].

const TEAMS = {
  Argentina: ["ARG", "h", "#74acdf", "#ffffff", "#74acdf"],
  Australia: ["AUS", "v", "#00247d", "#00247d", "#ffcd00"],
  Belgium: ["BEL", "v", "#2d2926", "#fdda25", "#c8102e"],
  Brazil: ["BRA", "h", "#009739", "#fedd00", "#009739"],
  Cameroon: ["CMR", "v", "#007a5e", "#ce1126", "#fcd116"],
  Canada: ["CAN", "v", "#d80621", "#ffffff", "#d80621"],
  "Costa Rica": ["CRC", "h", "#002b7f", "#ce1126", "#002b7f"],
  Croatia: ["CRO", "h", "#ff0000", "#ffffff", "#171796"],
  Denmark: ["DEN", "h", "#c8102e", "#ffffff", "#c8102e"],
  Ecuador: ["ECU", "h", "#ffd100", "#0072ce", "#ef3340"],
  England: ["ENG", "v", "#ffffff", "#ce1124", "#ffffff"],
  France: ["FRA", "v", "#002654", "#ffffff", "#ce1126"],
  Germany: ["GER", "h", "#1a1a1a", "#dd0000", "#ffce00"],
  Ghana: ["GHA", "h", "#ce1126", "#fcd116", "#006b3f"],
  Iran: ["IRN", "h", "#239f40", "#ffffff", "#da0000"],
  Japan: ["JPN", "v", "#ffffff", "#bc002d", "#ffffff"],
  Mexico: ["MEX", "v", "#006847", "#ffffff", "#ce1126"],
  Morocco: ["MAR", "h", "#c1272d", "#006233", "#c1272d"],
  Netherlands: ["NED", "h", "#ae1c28", "#ffffff", "#21468b"],
  Poland: ["POL", "h", "#ffffff", "#ffffff", "#dc143c"],
  Portugal: ["POR", "v", "#046a38", "#da291c", "#da291c"],
  Qatar: ["QAT", "v", "#ffffff", "#8a1538", "#8a1538"],
  "Saudi Arabia": ["KSA", "h", "#006c35", "#ffffff", "#006c35"],
  Senegal: ["SEN", "v", "#00853f", "#fdef42", "#e31b23"],
  Serbia: ["SRB", "h", "#c6363c", "#0c4076", "#ffffff"],
  "South Korea": ["KOR", "v", "#cd2e3a", "#ffffff", "#0047a0"],
  Spain: ["ESP", "h", "#aa151b", "#f1bf00", "#aa151b"],
  Switzerland: ["SUI", "v", "#da291c", "#ffffff", "#da291c"],
  Tunisia: ["TUN", "h", "#e70013", "#ffffff", "#e70013"],
  USA: ["USA", "h", "#b22234", "#ffffff", "#3c3b6e"],
  Uruguay: ["URU", "h", "#ffffff", "#0038a8", "#ffffff"],
  Wales: ["WAL", "h", "#ffffff", "#d30731", "#00ab39"],
};

export function codeOf(team) {
  return TEAMS[team]?.[0] ?? team.replace(/[^\p{L}]/gu, "").slice(0, 3).toUpperCase();
}

export function coloursOf(team) {
  const [, direction, ...colours] = TEAMS[team] ?? ["", "v", "#64748b", "#94a3b8", "#64748b"];
  const stripes = colours.map((colour, index) => `${colour} ${index * 33.4}% ${(index + 1) * 33.4}%`);
  return `linear-gradient(${direction === "h" ? "180deg" : "90deg"}, ${stripes.join(", ")})`;
}
