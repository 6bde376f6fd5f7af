// Find text whose contrast with its background is below 4.5 (WCAG 2.2, 1.4.3).
function channels(color) {
  const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number);
  return [r, g, b, a];
}
function over([r, g, b, a], [R, G, B]) { return [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)]; }
function luminance(color) {
  const [r, g, b] = color.map(c => c / 255).map(c => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function background(node) {
  if (!node) return [255, 255, 255];
  const own = channels(getComputedStyle(node).backgroundColor);
  return own[3] === 1 ? own.slice(0, 3) : over(own, background(node.parentElement));
}
function lowContrast() {
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const text = [...node.childNodes].filter(child => child.nodeType === 3).map(child => child.data).join("").trim();
    if (!text || node.disabled || !node.checkVisibility() || ["SCRIPT", "OPTION"].includes(node.tagName)) continue;
    const style = getComputedStyle(node), behind = background(node);
    const color = over(channels(node instanceof SVGElement ? style.fill : style.color), behind);
    const [a, b] = [luminance(color), luminance(behind)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push([node.tagName, node.className, text.slice(0, 30), ratio.toFixed(2)]);
  }
  return found;
}
