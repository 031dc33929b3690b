// Stands for LiteRT in a test that runs on a desktop's JVM: the signatures that the sample calls, and a "model" whose
// output lies in a file. What it was fed goes into another.
package com.google.ai.edge.litert

import android.content.res.AssetManager
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

enum class Accelerator { CPU }

class TensorBuffer internal constructor() : AutoCloseable {
    internal var bytes = ByteArray(0)

    fun writeInt8(data: ByteArray) {
        bytes = data
    }

    fun writeFloat(data: FloatArray) {
        bytes = ByteBuffer.allocate(4 * data.size).order(ByteOrder.LITTLE_ENDIAN).apply { asFloatBuffer().put(data) }.array()
    }

    fun readInt8(): ByteArray = bytes

    fun readFloat(): FloatArray {
        val floats = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        return FloatArray(floats.remaining()).also { floats.get(it) }
    }

    override fun close() {}
}

class CompiledModel private constructor(private val asset: String) : AutoCloseable {
    data class CpuOptions(val numThreads: Int? = null)

    class Options(vararg val accelerators: Accelerator) {
        var cpuOptions: CpuOptions? = null
    }

    fun createInputBuffer(inputName: String, signature: String = ""): TensorBuffer = TensorBuffer()

    fun createOutputBuffer(outputName: String, signature: String = ""): TensorBuffer = TensorBuffer()

    fun run(inputs: Map<String, TensorBuffer>, outputs: Map<String, TensorBuffer>, signature: String = "") {
        val place = System.getProperty("case")
        for ((name, buffer) in inputs) File("$place.$name.input").writeBytes(buffer.bytes)
        for ((name, buffer) in outputs) buffer.bytes = File("$place.$name.output").readBytes()
        File("$place.asset").writeText(asset)
    }

    override fun close() {}

    companion object {
        fun create(assetManager: AssetManager, assetName: String, options: Options = Options()): CompiledModel =
            CompiledModel(assetName)
    }
}
