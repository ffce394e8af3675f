// Lists, searches and shows profiles. Everything that comes from a profile goes into the page as text, never as markup.
'use strict';

const MAX_SHOWN = 500, MAX_HOPS = 8, MAX_DEPTH = 20, PAGE = 100;
const at = (selector) => document.querySelector(selector);
const query = at('#query'), filter = at('#filter'), count = at('#count');
const lists = { profiles: at('#profiles ul'), structs: at('nav ul') };
let open = null;      // { name, chain, json } of the profile shown
let request = null;   // the request under way

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
const link = (name, struct) =>
  '#' + encodeURIComponent(name) + (struct === undefined ? '' : '&' + encodeURIComponent(struct));

async function fetched(url) {
  request?.abort();
  request = new AbortController();
  const response = await fetch(url, { signal: request.signal });
  if (!response.ok) {
    const reason = await response.json().then((json) => json.error, () => undefined);
    throw new Error(reason ?? `HTTP status ${response.status}`);
  }
  return response.json();
}

function fail(error) {
  if (error.name !== 'AbortError') count.replaceChildren(make('span', String(error.message ?? error), { class: 'error' }));
}

function fill(list, names, item, more) {
  const items = names.slice(0, MAX_SHOWN).map((name) => {
    const row = make('li');
    row.append(item(name));
    return row;
  });
  if (more || names.length > MAX_SHOWN) items.push(make('li', 'more: search for a part of the name'));
  list.replaceChildren(...items);
}

// Profiles.
async function search() {
  const parameters = new URLSearchParams({ query: query.value.trim(), limit: PAGE });
  const { names, next } = await fetched('/list?' + parameters);
  fill(lists.profiles, names, (entry) => {
    const anchor = make('a', undefined, { href: link(entry.name) });
    const about = [entry.ProfileClass, entry.arch, entry.Release, entry.Target && '→ ' + entry.Target];
    anchor.append(make('span', entry.name), make('small', about.filter((text) => typeof text === 'string').join(' ')));
    return anchor;
  }, next !== null);
  count.textContent = `${names.length}${next === null ? '' : '+'} profiles`;
}

// One profile, symlinks followed.
async function load(name) {
  const chain = [];
  for (let target = name; chain.length < MAX_HOPS;) {
    count.textContent = 'loading…';
    const json = await fetched('/v1.0/' + target.split('/').map(encodeURIComponent).join('/'));
    const metadata = json.$METADATA ?? {};
    if (metadata.Type !== 'Symlink') return { name, target, chain, json };
    chain.push(target);
    target = String(metadata.Target);
  }
  throw new Error('too many symlinks: ' + chain.join(' → '));
}

function showProfile() {
  const { name, target, json } = open;
  at('#profile h2').textContent = name === target ? name : `${name} → ${target}`;
  const rows = Object.entries(json.$METADATA ?? {}).filter(([, value]) => typeof value !== 'object');
  at('#metadata').replaceChildren(...rows.flatMap(([key, value]) => [make('dt', key), make('dd', String(value))]));
  showStructs();
}

function showStructs() {
  const part = filter.value.trim().toLowerCase();
  const all = Object.keys(open.json.$STRUCTS ?? {}).sort();
  const names = all.filter((name) => name.toLowerCase().includes(part));
  fill(lists.structs, names, (struct) => make('a', struct, { href: link(open.name, struct) }), false);
  count.textContent = `${names.length} of ${all.length} structs`;
}

// A struct, as `rekal dt` shows it.
function showStruct(name) {
  const panel = at('#struct');
  const struct = (open.json.$STRUCTS ?? {})[name];
  if (!Array.isArray(struct)) {
    panel.replaceChildren(make('p', `no struct ${name}`, { class: 'error' }));
    return;
  }
  const [size, fields] = struct;
  const rows = Object.entries(fields ?? {}).filter(([, field]) => Array.isArray(field));
  rows.sort(([a, [x]], [b, [y]]) => x - y || (a < b ? -1 : 1));
  const table = make('table'), head = make('tr');
  head.append(...['offset', 'field', 'type'].map((title) => make('th', title, { scope: 'col' })));
  table.append(head);
  for (const [field, [offset, type]] of rows) {
    const row = make('tr'), cell = make('td');
    cell.append(...typeText(type, 0));
    row.append(make('td', hex(offset)), make('td', field), cell);
    table.append(row);
  }
  panel.replaceChildren(make('h2', `${name}  ${hex(size)} bytes`), table);
}

const hex = (number) => typeof number === 'number' && number >= 0 ? '0x' + number.toString(16) : String(number);

// A type as text and links: ["Pointer", {"target": ...}] and so on.
function typeText(type, depth) {
  if (typeof type === 'string') type = [type];
  if (!Array.isArray(type) || depth > MAX_DEPTH) return ['?'];
  const [name, given] = type, args = given ?? {};
  const target = () => typeText([args.target, args.target_args], depth + 1);
  switch (name) {
    case 'Pointer': case 'Pointer32': return [...target(), '*'];
    case 'Array': return [...target(), `[${args.count ?? `${args.size} bytes`}]`];
    case 'BitField': return [...(args.target ? target() : []), ` bits ${args.start_bit}-${args.end_bit}`];
    case 'Enumeration': return [`enum ${args.enum_name ?? ''}: `, ...(args.target ? target() : [])];
    default: {
      const text = String(name);
      const known = open.json.$STRUCTS && Object.hasOwn(open.json.$STRUCTS, text);
      return [known ? make('a', text, { href: link(open.name, text) }) : text];
    }
  }
}

// The address says what is shown: #profile&struct.
async function route() {
  const [name, struct] = location.hash.slice(1).split('&').map(decodeURIComponent);
  at('#profiles').hidden = Boolean(name);
  at('#profile').hidden = !name;
  document.title = name ? `${struct ?? name} – rekal profiles` : 'rekal profiles';
  if (!name) {
    open = null;
    await search();
    query.focus();
    return;
  }
  if (open?.name !== name) {
    filter.value = '';
    at('#struct').replaceChildren();
    lists.structs.replaceChildren();
    open = await load(name);
    showProfile();
    filter.focus();
  }
  if (struct) showStruct(struct);
}
const go = () => route().catch(fail);

let timer;
query.addEventListener('input', () => {
  clearTimeout(timer);
  timer = setTimeout(() => location.hash.length > 1 ? location.hash = '' : search().catch(fail), 120);
});
filter.addEventListener('input', () => open && showStructs());
addEventListener('hashchange', go);
addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const shown = at('#profile').hidden;
  const field = shown ? query : filter, list = shown ? lists.profiles : lists.structs;
  const links = [...list.querySelectorAll('a')], focused = links.indexOf(document.activeElement);
  if (event.key === '/' && document.activeElement.tagName !== 'INPUT') {
    (event.shiftKey ? query : field).focus();
  } else if (event.key === 'ArrowDown' && (focused >= 0 || document.activeElement === field)) {
    links[focused + 1]?.focus();
  } else if (event.key === 'ArrowUp' && focused >= 0) {
    (links[focused - 1] ?? field).focus();
  } else if (event.key === 'Enter' && document.activeElement === field && links.length) {
    links[0].click();
  } else if (event.key === 'Escape' && !shown) {
    location.hash = '';
  } else return;
  event.preventDefault();
});
go();
