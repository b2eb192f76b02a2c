// Runs when the pad is on the page: `element`, `props` and `trigger` come from Gradio's HTML component.
// The drawing is sent while it grows, ten times a second at most, and once more when the pen is lifted.
const canvas = element.querySelector('canvas');
const pen = canvas.getContext('2d', { willReadFrequently: true });
let drawing = false, sent = 0;

function paper() {
  pen.fillStyle = '#000';
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.strokeStyle = '#fff';
  pen.lineWidth = canvas.width / 13;
  pen.lineCap = pen.lineJoin = 'round';
}
function place(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
}
function draw(event) {
  pen.lineTo(...place(event));
  pen.stroke();
}
function send(always) {
  const now = performance.now();
  if (!always && now - sent < 100) return;
  sent = now;
  props.value = canvas.toDataURL('image/png');
  trigger('input');
}
canvas.addEventListener('pointerdown', event => {
  drawing = true;
  canvas.setPointerCapture(event.pointerId);
  pen.beginPath();
  pen.moveTo(...place(event));
  draw(event);
});
canvas.addEventListener('pointermove', event => { if (drawing) { draw(event); send(false); } });
for (const end of ['pointerup', 'pointercancel'])
  canvas.addEventListener(end, () => { if (drawing) { drawing = false; send(true); } });
element.querySelector('button').addEventListener('click', () => { paper(); props.value = ''; });
paper();
