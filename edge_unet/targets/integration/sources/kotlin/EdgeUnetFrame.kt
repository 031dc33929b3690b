// Frame -> network input size, and mask -> frame size, with the arithmetic of edge_unet (OpenCV's): plain Kotlin.
// Compiled and run by the project on a desktop's JVM with a stub of LiteRT, never on Android.
package edgeunet

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

/** (height, width, channels) bytes, row by row. A mask has one channel: class ids. */
class EdgeUnetFrame(val height: Int, val width: Int, val channels: Int, val pixels: ByteArray) {
    constructor(height: Int, width: Int, channels: Int) :
        this(height, width, channels, ByteArray(height * width * channels))

    init {
        require(height > 0 && width > 0 && pixels.size == height * width * channels) {
            "frame of ${pixels.size} bytes; expected $height x $width x $channels"
        }
    }

    /** This frame at the input's size: area averaging when both sides shrink, else bilinear in fixed point. */
    fun resized(): EdgeUnetFrame {
        require(channels == EdgeUnetModel.CHANNELS) { "$channels channels; expected ${EdgeUnetModel.CHANNELS}" }
        val inner = Inner.of(height, width)
        val scaled = when {
            inner.height == height && inner.width == width -> this
            inner.height < height && inner.width < width -> shrink(inner.height, inner.width)
            else -> interpolate(inner.height, inner.width)
        }
        val canvas = EdgeUnetFrame(EdgeUnetModel.HEIGHT, EdgeUnetModel.WIDTH, channels)
        canvas.pixels.fill(EdgeUnetModel.PAD_VALUE.toByte())
        for (y in 0 until inner.height) {
            val to = ((inner.top + y) * canvas.width + inner.left) * channels
            scaled.pixels.copyInto(canvas.pixels, to, y * inner.width * channels, (y + 1) * inner.width * channels)
        }
        return canvas
    }

    /** This mask, which has the input's size, at a frame's size; letterbox bars are cut. */
    fun restored(toHeight: Int, toWidth: Int): EdgeUnetFrame {
        val inner = Inner.of(toHeight, toWidth)
        val rows = nearest(inner.height, toHeight)
        val columns = nearest(inner.width, toWidth)
        val made = EdgeUnetFrame(toHeight, toWidth, 1)
        for (y in 0 until toHeight) {
            val line = (inner.top + rows[y]) * width + inner.left
            for (x in 0 until toWidth) made.pixels[y * toWidth + x] = pixels[line + columns[x]]
        }
        return made
    }

    private fun at(index: Int): Int = pixels[index].toInt() and 0xFF

    private fun shrink(toHeight: Int, toWidth: Int): EdgeUnetFrame {
        val byY = wholeStep(height, toHeight)
        val byX = wholeStep(width, toWidth)
        if (byY > 0 && byX > 0) return shrinkByWhole(toHeight, toWidth, byY, byX)
        val made = EdgeUnetFrame(toHeight, toWidth, channels)
        val columns = areaTaps(width, toWidth)
        val rows = areaTaps(height, toHeight)
        val line = FloatArray(toWidth * channels)
        val sum = FloatArray(toWidth * channels)
        for ((j, row) in rows.withIndex()) {
            line.fill(0f)
            for (tap in columns) {
                for (c in 0 until channels) {
                    val value = at((row.from * width + tap.from) * channels + c).toFloat()
                    line[tap.to * channels + c] += value * tap.share
                }
            }
            val starts = j == 0 || rows[j - 1].to != row.to
            for (x in sum.indices) sum[x] = if (starts) row.share * line[x] else sum[x] + row.share * line[x]
            if (j + 1 == rows.size || rows[j + 1].to != row.to) {
                for (x in sum.indices) made.pixels[row.to * sum.size + x] = toByte(sum[x])
            }
        }
        return made
    }

    private fun shrinkByWhole(toHeight: Int, toWidth: Int, byY: Int, byX: Int): EdgeUnetFrame {
        val made = EdgeUnetFrame(toHeight, toWidth, channels)
        val share = 1f / (byY * byX).toFloat()
        for (y in 0 until toHeight) for (x in 0 until toWidth) for (c in 0 until channels) {
            var sum = 0
            for (dy in 0 until byY) for (dx in 0 until byX) {
                sum += at(((y * byY + dy) * width + x * byX + dx) * channels + c)
            }
            val value = if (byY == 2 && byX == 2) ((sum + 2) shr 2).toByte() else toByte(sum.toFloat() * share)
            made.pixels[(y * toWidth + x) * channels + c] = value
        }
        return made
    }

    private fun interpolate(toHeight: Int, toWidth: Int): EdgeUnetFrame {
        val made = EdgeUnetFrame(toHeight, toWidth, channels)
        val columns = Array(toWidth) { pairAt(it, width, toWidth, holdBorder = true) }
        for (y in 0 until toHeight) {
            val row = pairAt(y, height, toHeight, holdBorder = false)
            for (x in 0 until toWidth) for (c in 0 until channels) {
                val upper = (row.firstWeight * (between(row.first, columns[x], c) shr 4)) shr 16
                val lower = (row.secondWeight * (between(row.second, columns[x], c) shr 4)) shr 16
                made.pixels[(y * toWidth + x) * channels + c] = ((upper + lower + 2) shr 2).toByte()
            }
        }
        return made
    }

    private fun between(y: Int, pair: Pair2, c: Int): Int {
        val line = y * width
        return at((line + pair.first) * channels + c) * pair.firstWeight +
            at((line + pair.second) * channels + c) * pair.secondWeight
    }

    /** Where a frame lands in the input. */
    private class Inner(val top: Int, val left: Int, val height: Int, val width: Int) {
        companion object {
            fun of(height: Int, width: Int): Inner {
                if (EdgeUnetModel.RESIZE == "stretch") return Inner(0, 0, EdgeUnetModel.HEIGHT, EdgeUnetModel.WIDTH)
                val ratio = min(EdgeUnetModel.HEIGHT.toDouble() / height, EdgeUnetModel.WIDTH.toDouble() / width)
                val h = max(1, Math.rint(height * ratio).toInt()) // half to even
                val w = max(1, Math.rint(width * ratio).toInt())
                return Inner((EdgeUnetModel.HEIGHT - h) / 2, (EdgeUnetModel.WIDTH - w) / 2, h, w)
            }
        }
    }

    /** One source pixel's share of one target pixel. */
    private class Tap(val to: Int, val from: Int, val share: Float)

    /** Two neighbours and their weights in 1/2048. */
    private class Pair2(val first: Int, val second: Int, val firstWeight: Int, val secondWeight: Int)

    companion object {
        /** Pixels of an Android Bitmap (getPixels, ARGB) in the model's colour order. */
        fun fromArgb(height: Int, width: Int, argb: IntArray): EdgeUnetFrame {
            val frame = EdgeUnetFrame(height, width, EdgeUnetModel.CHANNELS)
            for ((i, pixel) in argb.withIndex()) {
                val red = (pixel shr 16) and 0xFF
                val green = (pixel shr 8) and 0xFF
                val blue = pixel and 0xFF
                when (EdgeUnetModel.COLOR_ORDER) {
                    "GRAY" -> frame.pixels[i] = ((red * 9798 + green * 19235 + blue * 3735 + 16384) shr 15).toByte()
                    else -> {
                        val rgb = EdgeUnetModel.COLOR_ORDER == "RGB"
                        frame.pixels[3 * i] = (if (rgb) red else blue).toByte()
                        frame.pixels[3 * i + 1] = green.toByte()
                        frame.pixels[3 * i + 2] = (if (rgb) blue else red).toByte()
                    }
                }
            }
            return frame
        }

        private fun toByte(value: Float): Byte = Math.rint(value.toDouble()).toInt().coerceIn(0, 255).toByte()

        private fun scaleOf(from: Int, to: Int): Double = 1.0 / (to.toDouble() / from)

        /** The step where it is a whole number, else 0. */
        private fun wholeStep(from: Int, to: Int): Int {
            val scale = scaleOf(from, to)
            val whole = Math.rint(scale)
            return if (abs(scale - whole) < Math.ulp(1.0)) whole.toInt() else 0
        }

        private fun areaTaps(from: Int, to: Int): List<Tap> {
            val scale = scaleOf(from, to)
            val taps = ArrayList<Tap>()
            for (target in 0 until to) {
                val begin = target * scale
                val end = begin + scale
                val cell = min(scale, from - begin)
                val last = min(floor(end).toInt(), from - 1)
                val first = min(ceil(begin).toInt(), last)
                if (first - begin > 1e-3) taps.add(Tap(target, first - 1, ((first - begin) / cell).toFloat()))
                for (source in first until last) taps.add(Tap(target, source, (1.0 / cell).toFloat()))
                if (end - last > 1e-3) {
                    taps.add(Tap(target, last, (min(min(end - last, 1.0), cell) / cell).toFloat()))
                }
            }
            return taps
        }

        private fun pairAt(target: Int, from: Int, to: Int, holdBorder: Boolean): Pair2 {
            val place = ((target + 0.5) * scaleOf(from, to) - 0.5).toFloat()
            val first = floor(place.toDouble()).toInt()
            val part = if (holdBorder && (first < 0 || first >= from - 1)) 0f else place - first.toFloat()
            return Pair2(
                first.coerceIn(0, from - 1),
                (first + 1).coerceIn(0, from - 1),
                Math.rint(((1f - part) * 2048f).toDouble()).toInt(),
                Math.rint((part * 2048f).toDouble()).toInt(),
            )
        }

        /** The source index of every target index: half a step, then step by step. */
        private fun nearest(from: Int, to: Int): IntArray {
            val step = from.toDouble() / to
            var place = step * 0.5
            return IntArray(to) { min(floor(place).toInt(), from - 1).also { place += step } }
        }
    }
}
