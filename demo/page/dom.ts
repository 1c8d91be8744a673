type Attribute = string | boolean | ((event: Event) => void)
type Child = Node | string | null

/**
 * An element built by code. Text only ever becomes a text node, so nothing that the server or a person wrote is read
 * as markup. `onclick` and the like take a listener; `true` makes an empty attribute, `false` none.
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

let lastId = 0

/** An id for `aria-describedby` and `for`, unlike every other on the page. */
export function newId(): string {
  lastId += 1
  return `id-${lastId}`
}

/** The QR picture as a node, or null when the text is no SVG. `innerHTML` would read it as HTML; this reads it as XML. */
export function readSvg(text: string): Node | null {
  const root = new DOMParser().parseFromString(text, 'image/svg+xml').documentElement
  return root.nodeName === 'svg' ? document.importNode(root, true) : null
}

/** A moment in the reader's own way of writing dates. Takes ISO 8601 or Unix seconds, as JWT claims are. */
export function moment(at: string | number): HTMLTimeElement {
  const date = new Date(typeof at === 'number' ? at * 1000 : at)
  const written = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' }).format(date)
  return el('time', { datetime: date.toISOString() }, written)
}
