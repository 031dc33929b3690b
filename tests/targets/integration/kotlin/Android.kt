// Stands for Android in a test that runs on a desktop's JVM.
package android.content.res

class AssetManager
