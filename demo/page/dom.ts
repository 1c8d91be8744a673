type Attribute = string | boolean | ((event: Event) => void)
type Child = Node | string | null

/**
 * An element built by code. Text only ever becomes a text node, so nothing that the server or a person wrote is read
 * as markup. `onclick` and the like accept a listener; `true` makes an empty attribute, `false` none.
 */
export function el<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Record<string, Attribute> = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value)
    else if (value !== false) element.setAttribute(name, value === true ? '' : value)
  }
  element.append(...children.filter((child) => child !== null))
  return element
}

/** A button that leads to another view. */
export function linkButton(action: string, label: string, onclick: () => void): HTMLElement {
  return el('button', { type: 'button', class: 'link', 'data-action': action, onclick }, label)
}

/** Reads a sentence out, in a live region that stays while views come and go. */
export function announce(sentence: string): void {
  const region = document.getElementById('announcer')
  if (region !== null) region.textContent = sentence
}

let lastId = 0

/** An id for `aria-describedby` and `for`, unlike every other on the page. */
export function newId(): string {
  lastId += 1
  return `id-${lastId}`
}

/** As an image, a picture needs no parser of markup, which Trusted Types forbid. */
export function svgImage(svg: string, alt: string): HTMLImageElement {
  return el('img', { src: `data:image/svg+xml,${encodeURIComponent(svg)}`, alt })
}

/** A moment, ISO 8601. */
export function moment(at: string): HTMLTimeElement {
  return time(at, written(new Date(at), { dateStyle: 'medium', timeStyle: 'short' }))
}

export function day(at: string): HTMLTimeElement {
  return time(at, written(new Date(at), { dateStyle: 'medium' }))
}

/** “3 days ago”; the full date is in the title. */
export function ago(at: string): HTMLTimeElement {
  return time(at, distance((Date.parse(at) - Date.now()) / 1000))
}

/** A time of day, with the date when that is not today. */
export function clockTime(ms: number): string {
  const date = new Date(ms)
  const isToday = date.toDateString() === new Date().toDateString()
  return written(date, isToday ? { timeStyle: 'short' } : { dateStyle: 'medium', timeStyle: 'short' })
}

function time(at: string, text: string): HTMLTimeElement {
  const date = new Date(at)
  const title = written(date, { dateStyle: 'medium', timeStyle: 'short' })
  return el('time', { datetime: date.toISOString(), title }, text)
}

/** In English, like the words around it, and in the reader's own time zone. */
function written(date: Date, format: Intl.DateTimeFormatOptions): string {
  return new Intl.DateTimeFormat('en-US', format).format(date)
}

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
]

function distance(seconds: number): string {
  const [unit, length] = UNITS.find(([, each]) => Math.abs(seconds) >= each) ?? []
  if (unit === undefined || length === undefined) return 'just now'
  return new Intl.RelativeTimeFormat('en-US', { numeric: 'auto' }).format(Math.round(seconds / length), unit)
}
