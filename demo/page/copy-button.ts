import { el } from './dom.ts'

const CONFIRMED_FOR_MS = 2500

/** Copies `text`; where the browser does not let a page do that (no HTTPS), selects `shown` for the person to copy. */
export function copyButton(action: string, label: string, text: string, shown: HTMLElement): HTMLElement {
  const outcome = el('span', { class: 'outcome', role: 'status' })

  async function copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(text)
      outcome.textContent = 'Copied'
    } catch {
      getSelection()?.selectAllChildren(shown)
      outcome.textContent = 'Selected: copy it with Ctrl + C or ⌘ + C'
      return
    }
    setTimeout(() => {
      outcome.textContent = ''
    }, CONFIRMED_FOR_MS)
  }

  const button = el('button', { type: 'button', 'data-action': action, onclick: copy }, label)
  return el('span', { class: 'copy' }, button, outcome)
}
