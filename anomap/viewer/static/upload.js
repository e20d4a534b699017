// Sends the files that were chosen; how it went comes back as the page's state.
window.anomapUpload = async (input) => {
  const form = new FormData();
  for (const file of input.files) form.append("file", file, "image"); // its name may be a patient's
  input.value = ""; // so that the same files can be chosen again
  try {
    const answer = await fetch("/upload", { method: "POST", body: form });
    if (!answer.ok) throw new Error(answer.status);
  } catch (error) {
    window.trame.state.set("error", "E102 the files could not be sent. Try again, or type the folder's path.");
  }
};
