// A button for Load Layers that takes PSD and OpenRaster files: ComfyUI's own upload button offers pictures only.
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'

const NODE = 'DreamLayerLoadLayers'
const ENDINGS = '.psd,.ora'

async function upload(file) {
  const body = new FormData()
  body.append('image', file)
  const response = await api.fetchApi('/upload/image', { method: 'POST', body })
  if (!response.ok) throw new Error(`${file.name}: the server refused it (${response.status} ${response.statusText})`)
  const { name, subfolder } = await response.json()
  return subfolder ? `${subfolder}/${name}` : name
}

app.registerExtension({
  name: 'dreamlayer.layersUpload',
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return
    const combo = node.widgets?.find((widget) => widget.name === 'file')
    if (!combo) return
    const input = Object.assign(document.createElement('input'), { type: 'file', accept: ENDINGS })
    input.addEventListener('change', async () => {
      const file = input.files?.[0]
      input.value = ''
      if (!file) return
      try {
        const name = await upload(file)
        if (!combo.options.values.includes(name)) combo.options.values = [...combo.options.values, name]
        combo.value = name
        combo.callback?.(name)
      } catch (error) {
        app.extensionManager.toast.add({ severity: 'error', summary: 'Load Layers', detail: error.message })
      }
    })
    const button = node.addWidget('button', 'choose a PSD or ORA file', null, () => input.click())
    button.serialize = false
    const removed = node.onRemoved
    node.onRemoved = function (...values) {
      input.remove()
      return removed?.apply(this, values)
    }
  }
})
