// Elements shared by the tabs.

export const element = (id) => document.getElementById(id);

export function made(name, text = "", className = "") {
  const node = document.createElement(name);
  node.textContent = text;
  if (className) node.className = className;
  return node;
}

export function say(text) {
  element("error").hidden = true;
  element("status").textContent = text;
}

export function complain(error) {
  element("status").textContent = "";
  element("error").textContent = error.message;
  element("error").hidden = false;
}

export const percent = (prob) => `${(100 * prob).toFixed(1)} %`;

// Formats seconds as m:ss.s, such as 1:07.5
export function clock(seconds) {
  const tenths = Math.round(10 * seconds);
  const minutes = Math.floor(tenths / 600);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return `${minutes}:${rest}`;
}

// Bars of the most probable classes. Rows are reused, so that CSS can animate their changes.
export function showTop(list, top) {
  while (list.children.length > top.length) list.lastChild.remove();
  top.forEach((entry, place) => {
    let row = list.children[place];
    if (!row) {
      row = made("li");
      row.append(made("span", "", "bar"), made("span", "", "name"), made("span", "", "prob"));
      list.append(row);
    }
    row.querySelector(".bar").style.width = `${100 * entry.prob}%`;
    row.querySelector(".name").textContent = entry.name;
    row.querySelector(".prob").textContent = percent(entry.prob);
  });
}

// Calls take with a file that was chosen, or dropped on the drop zone.
export function onFile(id, take) {
  const input = element(`${id}-file`);
  const frame = element(`${id}-drop`);
  input.addEventListener("change", () => {
    if (input.files[0]) take(input.files[0]);
    input.value = ""; // otherwise choosing the same file again fires no event
  });
  for (const kind of ["dragover", "dragenter"]) {
    frame.addEventListener(kind, (event) => {
      event.preventDefault();
      frame.classList.add("over");
    });
  }
  frame.addEventListener("dragleave", () => frame.classList.remove("over"));
  frame.addEventListener("drop", (event) => {
    event.preventDefault();
    frame.classList.remove("over");
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}
