for (const input of document.querySelectorAll(".compare input")) {
  const move = () => input.parentElement.style.setProperty("--at", input.value + "%");
  input.addEventListener("input", move);
  move();
}
const dialog = document.querySelector("dialog");
for (const cell of document.querySelectorAll("a.cell")) {
  cell.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const [before, after] = dialog.querySelectorAll("img");
    const thumbnail = cell.querySelector("img");
    const content = document.getElementById(cell.dataset.content);
    before.src = content ? content.src : thumbnail.src;
    after.src = thumbnail.src;
    before.parentElement.style.setProperty("--width", thumbnail.naturalWidth);
    before.parentElement.style.setProperty("--height", thumbnail.naturalHeight);
    // Show the full picture if the page is still in its place.
    const whole = new Image();
    whole.onload = () => { if (dialog.dataset.of === cell.href) after.src = whole.src; };
    dialog.dataset.of = whole.src = cell.href;
    dialog.querySelector("a").href = cell.href;
    dialog.querySelector("p").textContent = cell.dataset.text;
    dialog.showModal();
  });
}
