import { deviceName } from './device-name.ts'
import { el, newId } from './dom.ts'
import { field } from './form.ts'

export interface TrustChoice {
  readonly element: HTMLElement
  /** What the device is to be called, when it is to be trusted; null when it is not. */
  trustedName(): string | null
}

/** Whether the next log-ins on this device are to need no code. */
export function trustChoice(): TrustChoice {
  const name = field({
    name: 'device-name',
    label: 'Name of this device',
    hint: 'You find it under this name in your account, where you can remove it.',
    value: deviceName(navigator.userAgent),
    attributes: { maxlength: '64', autocomplete: 'off' },
  })
  const box = el('input', {
    type: 'checkbox',
    id: newId(),
    name: 'trust-device',
    onchange: () => {
      name.row.hidden = !box.checked
    },
  })
  name.input.setAttribute('aria-describedby', name.hint.id)
  name.row.hidden = true
  return {
    element: el(
      'div',
      { class: 'choice' },
      el(
        'div',
        { class: 'with-box' },
        box,
        el('label', { for: box.id }, 'Don’t ask for a code on this device for 30 days'),
      ),
      name.row,
    ),
    trustedName: () => (box.checked ? name.input.value.trim() || deviceName(navigator.userAgent) : null),
  }
}
