() => {
  const area = (r, s) => [
    Math.min(r.right, s.right) - Math.max(r.left, s.left),
    Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top),
  ];

  // Words of a chart must be inside the drawing and free of one another.
  const text = [];
  for (const svg of document.querySelectorAll('svg.chart')) {
    const frame = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll('text')].map((t) => [t.textContent, t.getBoundingClientRect()]);
    boxes.forEach(([name, r], i) => {
      const outside = r.left < frame.left - 1 || r.right > frame.right + 1 || r.top < frame.top - 1 || r.bottom > frame.bottom + 1;
      if (outside) text.push('outside: ' + name);
      boxes.slice(i + 1).forEach(([other, s]) => {
        const [w, h] = area(r, s);
        if (w > 2 && h > 3) text.push(name + ' | ' + other);
      });
    });
  }

  // Cards, columns and sections of one parent must not lie on one another.
  const blocks = [];
  for (const parent of document.querySelectorAll('main, .cards, .two, div.grid, .gallery, .matrices')) {
    const boxes = [...parent.children].map((e) => e.getBoundingClientRect()).filter((r) => r.width && r.height);
    boxes.forEach((r, i) =>
      boxes.slice(i + 1).forEach((s) => {
        const [w, h] = area(r, s);
        if (w > 1 && h > 1) blocks.push(parent.className || parent.tagName);
      })
    );
  }

  // Text on its background: WCAG AA, 4.5 to 1.
  const channel = (v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const parts = (c) => c.match(/[\d.]+/g).map(Number);
  const light = (c) => {
    const [r, g, b] = parts(c);
    return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  };
  const background = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (parts(c).length < 4 || parts(c)[3] > 0) return c;
    }
    return 'rgb(255, 255, 255)';
  };
  const contrast = [];
  for (const e of document.querySelectorAll('main *, header *, footer *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (e.closest('svg') || !own || !e.getClientRects().length) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(background(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) contrast.push(`${e.className} "${e.textContent.trim().slice(0, 40)}" ${ratio.toFixed(2)}`);
  }

  const figures = [...document.querySelectorAll('figure')].filter((f) => f.querySelector('svg.chart'));
  return {
    text,
    blocks,
    contrast: contrast.slice(0, 10),
    charts: document.querySelectorAll('svg.chart').length,
    chartsWithTable: figures.filter((f) => f.querySelector('details table tbody tr')).length,
  };
}
