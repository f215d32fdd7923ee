/**
 * Asks the engine for the image before the rest of the program is loaded: Docker takes 25 ms to answer with the containerd image
 * store, as long as the loading takes. What nobody asks for later is thrown away; what can't be asked so is asked later.
 */
import { askEarly, INFO_PATH, imagePath, socketOf } from '../image/engine/socket.ts';
import { findTool } from '../image/engine/tool.ts';

/** `image`, `engine` and `export` as the user gave them. Resolves when the questions are on their way; never rejects. */
export async function askEngineEarly(
  inputs: { image: string; engine: string; export: string },
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const path = imagePath(inputs.image.trim());
  if (!path || inputs.engine === 'podman' || /^(docker-archive|oci-archive|oci):/.test(inputs.image.trim())) return;
  try {
    const tool = await findTool('docker', env);
    const socket = tool && (await socketOf(tool, env));
    if (!socket) return;
    // Where the engine's files are is only told by `info`, and only needed to read them.
    await Promise.all([path, ...(inputs.export === 'save' ? [] : [INFO_PATH])].map((one) => askEarly(socket, one)));
  } catch {
    // Whatever it is, the push meets it again and tells it.
  }
}
