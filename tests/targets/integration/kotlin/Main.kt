// One mask for every argument PLACE:HEIGHT:WIDTH: the frame is read from PLACE.frame, its mask goes to PLACE.mask.
import android.content.res.AssetManager
import edgeunet.EdgeUnetFrame
import edgeunet.EdgeUnetSegmenter
import java.io.File

fun main(arguments: Array<String>) {
    EdgeUnetSegmenter(AssetManager()).use { segment ->
        for (argument in arguments) {
            val (place, height, width) = argument.split(":")
            System.setProperty("case", place)
            val rgb = File("$place.frame").readBytes().map { it.toInt() and 0xFF }
            val argb = IntArray(rgb.size / 3) {
                (0xFF shl 24) or (rgb[3 * it] shl 16) or (rgb[3 * it + 1] shl 8) or rgb[3 * it + 2]
            }
            val frame = EdgeUnetFrame.fromArgb(height.toInt(), width.toInt(), argb)
            File("$place.mask").writeBytes(segment(frame).pixels)
        }
    }
}
