// EdgeUnetSegmenter(assets)(frame) -> mask on LiteRT: implementation("com.google.ai.edge.litert:litert:2.3.0").
// Compiled and run by the project on a desktop's JVM with a stub of LiteRT, never on Android.
package edgeunet

import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel

/** Opens the asset EdgeUnetModel.ASSET. Not for more than one thread at a time. */
class EdgeUnetSegmenter(assets: AssetManager, threads: Int = 4) : AutoCloseable {
    private val model: CompiledModel = CompiledModel.create(
        assets,
        EdgeUnetModel.ASSET,
        CompiledModel.Options(Accelerator.CPU).apply {
            cpuOptions = CompiledModel.CpuOptions(numThreads = threads)
        },
    )
    private val input = model.createInputBuffer(EdgeUnetModel.INPUT_NAME)
    private val outputs = EdgeUnetModel.OUTPUT_NAMES.associateWith { model.createOutputBuffer(it) }

    /** A frame in the model's colour order, any size -> class ids of the frame's size. */
    operator fun invoke(frame: EdgeUnetFrame): EdgeUnetFrame {
        val pixels = frame.resized().pixels
        if (EdgeUnetModel.INPUT_DTYPE == "int8") input.writeInt8(asInt8(pixels)) else input.writeFloat(asFloat(pixels))
        model.run(mapOf(EdgeUnetModel.INPUT_NAME to input), outputs)
        val output = outputs.getValue(EdgeUnetModel.OUTPUT_NAME)
        val mask = if (EdgeUnetModel.OUTPUT_DTYPE == "int8") {
            val codes = output.readInt8()
            maskOf { (codes[it].toInt() - EdgeUnetModel.OUTPUT_ZERO_POINT).toFloat() * EdgeUnetModel.OUTPUT_SCALE }
        } else {
            val logits = output.readFloat()
            maskOf { onGrid(logits[it]) }
        }
        return mask.restored(frame.height, frame.width)
    }

    override fun close() {
        input.close()
        outputs.values.forEach { it.close() }
        model.close()
    }

    companion object {
        /** pixel - 128: the frame is the quantized input. */
        fun asInt8(pixels: ByteArray): ByteArray =
            ByteArray(pixels.size) { (pixels[place(it)].toInt() xor 0x80).toByte() }

        /** (pixel - mean) * scale. */
        fun asFloat(pixels: ByteArray): FloatArray = FloatArray(pixels.size) {
            ((pixels[place(it)].toInt() and 0xFF).toFloat() - EdgeUnetModel.MEAN) * EdgeUnetModel.SCALE
        }

        /** Where the pixel of input element `index` lies. */
        private fun place(index: Int): Int {
            if (EdgeUnetModel.INPUT_LAYOUT == "NHWC") return index
            val plane = EdgeUnetModel.HEIGHT * EdgeUnetModel.WIDTH
            return index % plane * EdgeUnetModel.CHANNELS + index / plane
        }

        private fun onGrid(logit: Float): Float {
            if (!EdgeUnetModel.OUTPUT_HAS_GRID) return logit
            val code = Math.rint((logit / EdgeUnetModel.OUTPUT_SCALE).toDouble()).coerceIn(-128.0, 127.0)
            return code.toFloat() * EdgeUnetModel.OUTPUT_SCALE
        }

        /** Class ids at the output's size: logit > 0 for one channel, else the first of the largest. */
        fun maskOf(logit: (Int) -> Float): EdgeUnetFrame {
            val channels = EdgeUnetModel.OUTPUT_CHANNELS
            val mask = EdgeUnetFrame(EdgeUnetModel.OUTPUT_HEIGHT, EdgeUnetModel.OUTPUT_WIDTH, 1)
            val plane = mask.pixels.size
            for (i in 0 until plane) {
                var best = 0
                var most = Float.NEGATIVE_INFINITY
                for (c in 0 until channels) {
                    val value = logit(if (EdgeUnetModel.OUTPUT_LAYOUT == "NHWC") i * channels + c else c * plane + i)
                    if (value > most) {
                        most = value
                        best = c
                    }
                }
                mask.pixels[i] = (if (channels > 1) best else if (most > 0f) 1 else 0).toByte()
            }
            return mask
        }
    }
}
